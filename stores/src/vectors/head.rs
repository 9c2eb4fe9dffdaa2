//! The head of the journal: which file holds the records, and how much of it was acknowledged. Small enough to be written in one piece,
//! twice over, so that one whole copy is there at every moment.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

use super::record::{Reader, Writer, checksum};

/// The layout of a slot of the head is the same in every version.
const MAGIC: &[u8; 8] = b"NCVECTOR";
/// What this program writes and reads.
pub(super) const VERSION: u32 = 1;
/// Magic, version, generation, length, sequence, checksum.
const SLOT: usize = 8 + 4 + 8 + 8 + 8 + 8;
/// The two slots of the head lie on pages of their own and are written in turn.
const SLOTS_AT: [u64; 2] = [0, 4096];
/// What the head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Which file.
    pub(super) generation: u64,
    /// How much of it was acknowledged, in bytes.
    pub(super) length: u64,
    /// Which of two slots is the newer.
    pub(super) sequence: u64,
}

impl Head {
    /// The slot.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut w = Writer(MAGIC.to_vec());
        w.u32(VERSION);
        w.u64(self.generation);
        w.u64(self.length);
        w.u64(self.sequence);
        let sum = checksum(&w.0);
        w.u64(sum);
        w.0
    }

    /// Where in the file the slot lies.
    pub(super) fn place(self) -> u64 {
        SLOTS_AT[(self.sequence % 2) as usize]
    }

    /// The version and the head, where the bytes are whole.
    fn from_bytes(bytes: &[u8]) -> Option<(u32, Self)> {
        let body = bytes.get(..SLOT - 8)?;
        let mut r = Reader(bytes);
        let whole = r.bytes(8)? == MAGIC;
        let version = r.u32()?;
        let head = Self { generation: r.u64()?, length: r.u64()?, sequence: r.u64()? };
        (whole && r.u64()? == checksum(body)).then_some((version, head))
    }
}

/// What a file of the head holds.
pub(super) enum HeadFound {
    /// Nothing was written yet.
    None,
    /// Neither slot is whole.
    Torn,
    /// A version that this program does not know.
    TooNew(u32),
    /// The newer slot.
    Whole(Head),
}

/// Reads the newer slot that is whole.
pub(super) fn read_head(mut file: &File) -> io::Result<HeadFound> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(SLOTS_AT[1] + SLOT as u64).read_to_end(&mut bytes)?;
    if bytes.is_empty() {
        return Ok(HeadFound::None);
    }
    let whole = SLOTS_AT.iter().filter_map(|at| Head::from_bytes(bytes.get(*at as usize..)?));
    Ok(match whole.max_by_key(|(_, head)| head.sequence) {
        None => HeadFound::Torn,
        Some((version, _)) if version > VERSION => HeadFound::TooNew(version),
        Some((_, head)) => HeadFound::Whole(head),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(slots: [&[u8]; 2]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        for (at, bytes) in SLOTS_AT.iter().zip(slots) {
            file.seek(SeekFrom::Start(*at)).unwrap();
            file.write_all(bytes).unwrap();
        }
        file
    }

    fn head(sequence: u64) -> Head {
        Head { generation: 3, length: 1000 + sequence, sequence }
    }

    #[test]
    fn the_newer_whole_slot_counts() {
        let (old, new) = (head(8).to_bytes(), head(9).to_bytes());
        assert!(matches!(read_head(&file([&old, &new])).unwrap(), HeadFound::Whole(h) if h == head(9)));
        for at in 0..new.len() {
            let mut torn = new.clone();
            torn[at] ^= 1;
            assert!(matches!(read_head(&file([&old, &torn])).unwrap(), HeadFound::Whole(h) if h == head(8)));
            assert!(matches!(read_head(&file([&torn, &torn])).unwrap(), HeadFound::Torn));
            assert!(matches!(read_head(&file([&old, &new[..at]])).unwrap(), HeadFound::Whole(h) if h == head(8)));
        }
        assert!(matches!(read_head(&file([&[], &[]])).unwrap(), HeadFound::None));
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let mut slot = head(8).to_bytes();
        slot[8] += 1;
        let sum = checksum(&slot[..SLOT - 8]);
        slot[SLOT - 8..].copy_from_slice(&sum.to_le_bytes());
        assert!(matches!(read_head(&file([&slot, &[]])).unwrap(), HeadFound::TooNew(v) if v == VERSION + 1));
    }
}
