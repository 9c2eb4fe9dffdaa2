//! Many result rows in one text: `json_group_array(json_array(…))`, read back here.
//!
//! A row costs SQLx a copy of each value and a hand-over between two threads, which wake each other for every row where both are
//! quick. 80,000 rows of three numbers took 80 ms as rows and 20 ms packed; the pairs of 79,748 engagements 0.8 s and 0.2 s.
//! Whatever returns hundreds of short rows is packed; texts and vectors of messages are not.
//!
//! Numbers with fractions are packed as `format('%!.17g', x)` and parsed by Rust: 17 digits name one `f64` and no other, and
//! `serde_json` on its own may miss the last bit.

use std::borrow::Cow;

use serde::Deserialize;

use super::error::torn;

/// A text that is borrowed from the packed rows where it holds no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// Reads packed rows; no text is no rows.
pub(crate) fn rows<'a, T: Deserialize<'a>>(packed: Option<&'a str>) -> sqlx::Result<Vec<T>> {
    packed.map_or_else(|| Ok(Vec::new()), |text| serde_json::from_str(text).map_err(|_| torn("a packed row")))
}

/// Reads a number as `format('%!.17g', x)` wrote it.
pub(crate) fn real(text: &str) -> sqlx::Result<f64> {
    text.parse().map_err(|_| torn("a number"))
}

#[cfg(test)]
mod tests {
    use sqlx::ConnectOptions as _;

    use super::{real, rows};

    #[tokio::test]
    async fn numbers_come_back_to_the_bit() {
        let mut c = sqlx::sqlite::SqliteConnectOptions::new().in_memory(true).connect().await.unwrap();
        let mut rng = fastrand::Rng::with_seed(7);
        let mut numbers =
            vec![0.0, 1.0, 0.1, 1.0 / 3.0, f64::MAX, f64::MIN_POSITIVE, 5e-324, 1e22, 1e23, 123_456_789.123_456_78];
        numbers.extend(std::iter::repeat_with(|| f64::from_bits(rng.u64(..))).filter(|x| x.is_finite()).take(20_000));
        numbers.extend(std::iter::repeat_with(|| rng.f64() * 1000.0).take(20_000));
        for x in numbers {
            let packed: String = sqlx::query_scalar("SELECT json_group_array(json_array(format('%!.17g', ?), ?))")
                .bind(x)
                .bind(f64::from(x as f32))
                .fetch_one(&mut c)
                .await
                .unwrap();
            if (x as f32).is_finite() {
                let read: Vec<(String, f64)> = rows(Some(&packed)).unwrap();
                assert_eq!(real(&read[0].0).unwrap().to_bits(), x.to_bits(), "{x:e} {packed}");
                assert_eq!((read[0].1 as f32).to_bits(), (x as f32).to_bits(), "{x:e} {packed}");
            }
        }
    }
}
