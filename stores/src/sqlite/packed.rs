//! Many result rows in one text: `json_group_array(json_array(…))`, read back here.
//!
//! A row costs SQLx a copy of each value and a hand-over between two threads, which wake each other for every row where both are
//! quick. 80,000 rows of three numbers took 80 ms as rows and 20 ms packed; the pairs of 79,748 engagements 0.8 s and 0.2 s.
//! Whatever returns hundreds of short rows is packed; texts and vectors of messages are not.
//!
//! SQLite writes an `f64` with 17 digits of which the last may be wrong, and `serde_json` reads one that may miss the last bit.
//! That is enough for an `f32`, and only those are packed as decimals.

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

#[cfg(test)]
mod tests {
    use sqlx::ConnectOptions as _;

    use super::rows;

    #[tokio::test]
    async fn weights_come_back_to_the_bit() {
        let mut c = sqlx::sqlite::SqliteConnectOptions::new().in_memory(true).connect().await.unwrap();
        let mut rng = fastrand::Rng::with_seed(7);
        let mut weights = vec![0.0, 1.0, 0.1, 1.0 / 3.0, f32::MAX, f32::MIN_POSITIVE, f32::from_bits(1)];
        weights.extend(std::iter::repeat_with(|| f32::from_bits(rng.u32(..))).filter(|x| x.is_finite()).take(30_000));
        for x in weights {
            let sql = "SELECT json_group_array(json_array(?))";
            let packed: String = sqlx::query_scalar(sql).bind(f64::from(x)).fetch_one(&mut c).await.unwrap();
            let read: Vec<(f64,)> = rows(Some(&packed)).unwrap();
            assert_eq!((read[0].0 as f32).to_bits(), x.to_bits(), "{x:e} {packed}");
        }
    }
}
