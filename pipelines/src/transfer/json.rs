//! JSON whose numbers are read back bit by bit by the decoder of events.
//!
//! `serde_json` reads a number of many digits to within its last bit only, unless it is built otherwise. A fact whose value moved by a
//! bit would be another fact, with another hash. So a number is written in a form that is known to come back. All of
//! up to fifteen digits have one; of longer ones some have none, and may move by their last bit.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

struct Exact;

impl Formatter for Exact {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(number(value).as_bytes())
    }
}

/// The shortest form where that is read back, or one of more digits.
fn number(value: f64) -> String {
    let same = |text: &String| serde_json::from_str::<f64>(text).is_ok_and(|v| v.to_bits() == value.to_bits());
    let short = serde_json::to_string(&value).unwrap_or_default();
    if same(&short) {
        return short;
    }
    // Of some none is: then that of a neighbour that is read as this one, where there is one.
    let near = |ulps: i64| f64::from_bits(value.to_bits().wrapping_add_signed(ulps));
    let forms = |ulps: i64| (15..40).map(move |digits| format!("{:.digits$e}", near(ulps)));
    [0, 1, -1, 2, -2, 3, -3].into_iter().flat_map(forms).find(same).unwrap_or(short)
}

/// A value as a line of JSON without its end.
pub fn to_json<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(256);
    value.serialize(&mut Serializer::with_formatter(&mut out, Exact))?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_back() {
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..200_000 {
            // As producers write numbers: up to fifteen digits.
            let text =
                format!("{}e{}", rng.i64(-999_999_999_999_999..=999_999_999_999_999) >> rng.u32(0..45), rng.i32(-22..=7));
            let value: f64 = serde_json::from_str(&text).unwrap();
            let back: f64 = serde_json::from_slice(&to_json(&value).unwrap()).unwrap();
            assert_eq!(back.to_bits(), value.to_bits(), "{value:?}");
        }
        assert_eq!(to_json(&5.0_f64).unwrap(), b"5.0");
    }
}
