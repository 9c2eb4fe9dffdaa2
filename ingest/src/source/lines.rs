//! Lines of bytes with a bound on their length: one endless line costs no more memory than a long one.

use std::io::{self, BufRead};

/// A line without its end.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// Its bytes, or the first `max` of them.
    pub bytes: Vec<u8>,
    /// Whether there was more.
    pub cut: bool,
    /// How many bytes of the input it took, its end included.
    pub taken: u64,
}

/// The next line, or `None` at the end.
pub fn read_line(input: &mut impl BufRead, max: usize) -> io::Result<Option<Line>> {
    let mut line = Line { bytes: Vec::new(), cut: false, taken: 0 };
    loop {
        let chunk = match input.fill_buf() {
            Ok(c) => c,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        if chunk.is_empty() {
            return Ok((line.taken > 0).then_some(line));
        }
        let end = chunk.iter().position(|b| *b == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        let room = max - line.bytes.len();
        line.bytes.extend_from_slice(&part[..part.len().min(room)]);
        line.cut |= part.len() > room;
        let used = end.map_or(chunk.len(), |e| e + 1);
        line.taken += used as u64;
        input.consume(used);
        if end.is_some() {
            if line.bytes.last() == Some(&b'\r') && !line.cut {
                line.bytes.pop();
            }
            return Ok(Some(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_and_ends() {
        let mut input = io::BufReader::with_capacity(4, &b"abcdefgh\nxy\r\n\nend"[..]);
        let line = |bytes: &[u8], cut, taken| Some(Line { bytes: bytes.to_vec(), cut, taken });
        assert_eq!(read_line(&mut input, 5).unwrap(), line(b"abcde", true, 9));
        assert_eq!(read_line(&mut input, 5).unwrap(), line(b"xy", false, 4));
        assert_eq!(read_line(&mut input, 5).unwrap(), line(b"", false, 1));
        assert_eq!(read_line(&mut input, 5).unwrap(), line(b"end", false, 3));
        assert_eq!(read_line(&mut input, 5).unwrap(), None);
    }
}
