//! The repository's documents, for those who check that what they say is so. I/O: reads files.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A document by its path in the repository.
///
/// # Panics
/// If it is not there.
pub fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).expect("the document is in the repository")
}

/// The fenced blocks of a document, each with its language.
pub fn blocks(text: &str) -> impl Iterator<Item = (&str, &str)> {
    // Between two fences, and outside of them, in turns.
    text.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'))
}
