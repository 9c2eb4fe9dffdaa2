//! Keys as text: a string is the one type whose equality every server finds quickly.
//!
//! A name can hold any character, so lengths in bytes stand before what is joined: no two joins are the same text.

use nearcast_domain::Tenant;

/// The key of a tenant's user (`tu`) or item (`ti`): `7:defaultanna`. All of a tenant begin alike, and stand in the order of their
/// names.
pub(super) fn owned(tenant: &Tenant, name: &str) -> String {
    let tenant = tenant.as_str();
    format!("{}:{tenant}{name}", tenant.len())
}

/// Tenant and name of a key that [`owned`] made.
pub(super) fn parts(key: &str) -> Option<(&str, &str)> {
    let (length, rest) = key.split_once(':')?;
    rest.split_at_checked(length.parse().ok()?)
}

/// The `_id` of an event: `7:4:defaultannaeview-17`. Messages and engagements have ids of their own.
pub(super) fn event(tenant: &Tenant, user: &str, is_message: bool, id: &str) -> String {
    let (tenant, kind) = (tenant.as_str(), if is_message { 'm' } else { 'e' });
    format!("{}:{}:{tenant}{user}{kind}{id}", tenant.len(), user.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_joins_are_the_same() {
        let t = |name: &str| Tenant::parse(name).unwrap();
        assert_eq!(parts(&owned(&t("a:1"), "2:b")), Some(("a:1", "2:b")));
        assert_eq!(parts(&owned(&t("ж"), "")), Some(("ж", "")));
        assert_ne!(owned(&t("ab"), "c"), owned(&t("a"), "bc"));
        assert_ne!(event(&t("a"), "be", false, "x"), event(&t("a"), "b", false, "ex"));
        assert_eq!(parts("3:ab"), None);
        assert_eq!(parts("nonsense"), None);
    }
}
