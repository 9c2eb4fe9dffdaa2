//! When and from where a request came.
//!
//! What a caller says of itself is believed only when it comes through a proxy that is trusted.

use std::{convert::Infallible, net::IpAddr, time::Duration};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, request::Parts},
};
use tokio::time::Instant;

use crate::config::Network;

/// When a request was there: its budget counts from then. And who is at the other end of the connection.
#[derive(Debug, Clone, Copy)]
pub struct Arrived {
    /// When: as its head was read, less what it is known to have waited for that.
    pub at: Instant,
    /// How long it waited until its head was read, where the kernel was asked.
    pub waited: Option<Duration>,
    /// From where; `None` without a network.
    pub peer: Option<IpAddr>,
    /// Whether the connection is about to end, so that the answer must say so.
    pub closing: bool,
    /// Whether the gate has let it in already: it is not asked twice.
    pub let_in: bool,
}

impl Arrived {
    /// Now, through no network.
    pub fn now() -> Self {
        Self { at: Instant::now(), waited: None, peer: None, closing: false, let_in: false }
    }

    /// The address of whoever asked: what the proxies say, from the last to the first, as far as they are trusted.
    pub fn caller(&self, trusted: &[Network], headers: &HeaderMap) -> Option<IpAddr> {
        let known = |a: IpAddr| trusted.iter().any(|n| n.holds(a));
        let mut caller = self.peer?;
        let said = headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok());
        let said: Vec<&str> = said.flat_map(|v| v.split(',')).map(str::trim).collect();
        for address in said.into_iter().rev() {
            if !known(caller) {
                break;
            }
            let Ok(address) = address.parse() else { break };
            caller = address;
        }
        Some(caller.to_canonical())
    }
}

impl<S: Sync> FromRequestParts<S> for Arrived {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().copied().unwrap_or_else(Self::now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed() {
        let trusted = [Network::parse("10.0.0.0/8").unwrap()];
        let caller = |peer: &str, said: &[&str]| {
            let mut headers = HeaderMap::new();
            for s in said {
                headers.append("x-forwarded-for", s.parse().unwrap());
            }
            let arrived = Arrived { peer: Some(peer.parse().unwrap()), ..Arrived::now() };
            arrived.caller(&trusted, &headers).unwrap().to_string()
        };
        assert_eq!(caller("1.2.3.4", &["9.9.9.9"]), "1.2.3.4", "a stranger says nothing");
        assert_eq!(caller("10.0.0.1", &["9.9.9.9"]), "9.9.9.9");
        assert_eq!(caller("10.0.0.1", &["6.6.6.6, 9.9.9.9", "10.0.0.2"]), "9.9.9.9", "the caller's own words are not believed");
        assert_eq!(caller("10.0.0.1", &["nonsense"]), "10.0.0.1");
        assert_eq!(caller("10.0.0.1", &[]), "10.0.0.1");
    }
}
