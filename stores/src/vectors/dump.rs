//! Graphs on disk, so that a start need not make them again. Never needed: what is missing, torn, or no longer fits the rows is
//! made anew from them.
//!
//! A point is named by the hash of its code, so a dump fits whatever rows there are by now: points whose code no row has are
//! mended out, and rows whose code has no point are scanned until the graph takes them in.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs,
    io::Write,
    path::Path,
};

use nearcast_domain::{StoreResult, ports::Collection};

use super::{
    graph::Graph,
    journal::failure,
    record::{Reader, Writer, checksum},
    shard::{Shard, code_hash},
};

const MAGIC: &[u8; 8] = b"NCGRAPH\x01";
const FILE: &str = "vectors.graph";

/// Whose graph it is: revision, collection, tenant.
pub(super) type Key = (String, Collection, String);

/// A graph by the hashes of its points.
#[derive(Debug, PartialEq)]
pub(super) struct Dump {
    /// The points that the graph finds are 0.
    points: Vec<(u64, bool)>,
    /// The links of each point, as places in `points`: a list a layer from the lowest up.
    links: Vec<Vec<Vec<u32>>>,
}

impl Dump {
    /// Takes down a shard's graph.
    pub(super) fn of(shard: &Shard) -> Self {
        let graph = &shard.graph;
        let numbers: Vec<u32> = graph.points().collect();
        let places: HashMap<u32, u32> = numbers.iter().zip(0..).map(|(p, i)| (*p, i)).collect();
        let place = |l: &u32| places.get(l).copied();
        Self {
            points: numbers.iter().map(|p| (code_hash(shard.codes.of(*p)), shard.strays.contains(p))).collect(),
            links: numbers
                .iter()
                .map(|p| (0..=graph.top_of(*p)).map(|l| graph.links(*p, l).iter().filter_map(place).collect()).collect())
                .collect(),
        }
    }

    /// Gives the graph to a shard that has none. Nothing happens where it does not fit.
    pub(super) fn give_to(self, shard: &mut Shard) {
        let known: Vec<Option<u32>> = self.points.iter().map(|(hash, _)| shard.point_by_hash(*hash)).collect();
        let mut taken = HashSet::new();
        let fits = known.iter().flatten().filter(|p| taken.insert(**p)).count();
        if fits * 2 < self.points.len() {
            return;
        }
        let mut missing = HashSet::new();
        let mut taken = HashSet::new();
        let numbers: Vec<u32> = known
            .into_iter()
            .map(|p| match p {
                Some(p) if taken.insert(p) => p,
                _ => {
                    let p = shard.placeholder();
                    missing.insert(p);
                    p
                }
            })
            .collect();
        let mut graph = Graph::default();
        let number = |place: u32| numbers.get(place as usize).copied();
        let restored = numbers.iter().zip(self.links).try_for_each(|(point, layers)| {
            let layers: Option<Vec<Vec<u32>>> = layers.into_iter().map(|l| l.into_iter().map(number).collect()).collect();
            graph.restore(*point, layers?)
        });
        if restored.is_some() && graph.is_sound() {
            let mut strays: BTreeSet<u32> = numbers
                .iter()
                .zip(&self.points)
                .filter(|(p, (_, stray))| *stray && !missing.contains(p))
                .map(|(p, _)| *p)
                .collect();
            if !missing.is_empty() {
                graph.remove(&shard.codes, &missing);
                strays.extend(graph.unreachable());
                shard.unchecked = true;
            }
            shard.install(graph, strays);
        }
        shard.free_gone();
    }
}

/// Writes the graphs of these shards in the place of the file before.
pub(super) fn write(dir: &Path, dumps: &[(Key, Dump)]) -> StoreResult<()> {
    let mut w = Writer(MAGIC.to_vec());
    w.u32(dumps.len() as u32);
    for ((revision, collection, tenant), dump) in dumps {
        w.text(revision);
        w.collection(*collection);
        w.text(tenant);
        w.u32(dump.points.len() as u32);
        for ((hash, stray), layers) in dump.points.iter().zip(&dump.links) {
            w.u64(*hash);
            w.u8(u8::from(*stray));
            w.u32(layers.len() as u32);
            for links in layers {
                w.u32(links.len() as u32);
                for l in links {
                    w.u32(*l);
                }
            }
        }
    }
    let sum = checksum(&w.0);
    w.u64(sum);
    let (path, beside) = (dir.join(FILE), dir.join("vectors.graph.new"));
    let put = || {
        let mut file = fs::File::create(&beside)?;
        file.write_all(&w.0)?;
        file.sync_data()?;
        fs::rename(&beside, &path)
    };
    put().map_err(|e| failure(&path, &e))
}

/// The graphs that were written, or none where they do not read back.
pub(super) fn read(dir: &Path) -> Vec<(Key, Dump)> {
    let path = dir.join(FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::warn!(store = "vectors", path = %path.display(), %error, "the graph cannot be read; it is made again");
            return Vec::new();
        }
    };
    decode(&bytes).unwrap_or_else(|| {
        tracing::warn!(store = "vectors", path = %path.display(), "the graph does not read back; it is made again");
        Vec::new()
    })
}

fn decode(bytes: &[u8]) -> Option<Vec<(Key, Dump)>> {
    let (body, sum) = bytes.split_last_chunk::<8>()?;
    if checksum(body) != u64::from_le_bytes(*sum) {
        return None;
    }
    let mut r = Reader(body);
    if r.bytes(8)? != MAGIC {
        return None;
    }
    let dumps = r.many(|r| {
        let key = (r.text()?.to_owned(), r.collection()?, r.text()?.to_owned());
        let both = r.many(|r| Some(((r.u64()?, r.u8()? != 0), r.many(|r| r.many(Reader::u32))?)))?;
        let (points, links) = both.into_iter().unzip();
        Some((key, Dump { points, links }))
    })?;
    r.0.is_empty().then_some(dumps)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use nearcast_domain::{ports::VectorRow, testing::vectors::random_unit};

    use super::{super::grow::grow, *};

    fn rows(n: usize) -> Vec<VectorRow> {
        let mut rng = fastrand::Rng::with_seed(1);
        (0..n).map(|i| VectorRow { id: format!("i{i}"), vector: random_unit(&mut rng, 16), labels: vec![] }).collect()
    }

    fn shard(rows: &[VectorRow]) -> Shard {
        let mut shard = Shard::new(16);
        for r in rows {
            shard.upsert(r.clone(), &mut HashMap::new());
        }
        shard
    }

    fn grown(rows: &[VectorRow]) -> Shard {
        let mut shard = shard(rows);
        let growth = shard.begin(usize::MAX).unwrap();
        shard.finish(grow(growth, &|| false));
        assert_eq!((shard.graph.len(), shard.fresh.len()), (rows.len(), 0));
        shard
    }

    #[test]
    fn a_graph_comes_back_from_disk() {
        let dir = tempfile::tempdir().unwrap();
        let mut all = rows(600);
        let before = grown(&all);
        let key: Key = ("r".into(), Collection::Items, "t".into());
        write(dir.path(), &[(key.clone(), Dump::of(&before))]).unwrap();
        fastrand::Rng::with_seed(2).shuffle(&mut all);
        let mut after = shard(&all);
        let [(read_key, dump)] = <[_; 1]>::try_from(read(dir.path())).unwrap();
        assert_eq!(read_key, key);
        dump.give_to(&mut after);
        assert_eq!((after.graph.len(), after.fresh.len(), after.unchecked), (600, 0, false));
        for p in after.all_points() {
            let found = after.graph.search(&after.codes, after.codes.of(p), 24, &|_| true);
            assert!(after.strays.contains(&p) || found[0].point == p);
        }
        assert_eq!(Dump::of(&after).points.len(), 600);
    }

    #[test]
    fn rows_that_changed_since_are_mended_out_and_scanned() {
        let all = rows(600);
        let dump = Dump::of(&grown(&all));
        let mut changed = all.clone();
        for (i, r) in changed.iter_mut().enumerate().filter(|(i, _)| i % 5 == 0) {
            r.vector = random_unit(&mut fastrand::Rng::with_seed(1000 + i as u64), 16);
        }
        let mut after = shard(&changed);
        dump.give_to(&mut after);
        assert_eq!((after.graph.len(), after.fresh.len(), after.unchecked), (480, 120, true));
        assert!(after.graph.is_sound());
        assert_eq!(after.live_points(), 600);
        // Too little left of it: not worth having.
        let mut other = shard(&rows(700)[500..]);
        Dump::of(&grown(&all)).give_to(&mut other);
        assert_eq!(other.graph.len(), 0);
    }

    #[test]
    fn what_is_torn_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).is_empty());
        write(dir.path(), &[(("r".into(), Collection::Items, "t".into()), Dump::of(&grown(&rows(50))))]).unwrap();
        let bytes = fs::read(dir.path().join(FILE)).unwrap();
        assert!(decode(&bytes).is_some());
        for at in 0..bytes.len() {
            assert!(decode(&bytes[..at]).is_none());
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            assert!(decode(&flipped).is_none());
        }
    }
}
