//! No server of the suite goes unjudged: whose recording was begun, and which were read by Microsoft's parser. I/O: files in the folder that
//! `ADX_FEDERATION_RECORDINGS` names, which `judge-recordings` looks through at the suite's end; without it nothing is kept.

use std::{
    collections::BTreeSet,
    env,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process,
};

/// Whether somebody looks at the suite's end.
pub fn are_watched() -> bool {
    folder().is_some()
}

/// A server records into this file.
pub(crate) fn begun(recording: &Path) {
    note("begun", recording);
}

/// Microsoft's parser has read this recording.
pub fn judged(recording: &Path) {
    note("judged", recording);
}

/// The recordings that were begun and never judged.
///
/// # Errors
/// The notes cannot be read.
pub fn unjudged(folder: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let (begun, judged) = (notes(&folder.join("begun"))?, notes(&folder.join("judged"))?);
    Ok(&begun - &judged)
}

fn folder() -> Option<PathBuf> {
    env::var_os("ADX_FEDERATION_RECORDINGS").map(PathBuf::from)
}

/// One file for each kind and program, a path a line.
fn note(kind: &str, recording: &Path) {
    let Some(folder) = folder() else { return };
    let folder = folder.join(kind);
    fs::create_dir_all(&folder).expect("the folder can be made");
    let file = folder.join(process::id().to_string());
    let mut file = OpenOptions::new().create(true).append(true).open(file).expect("the folder can be written");
    file.write_all(format!("{}\n", recording.display()).as_bytes()).expect("the folder can be written");
}

fn notes(folder: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut paths = BTreeSet::new();
    if folder.exists() {
        for entry in fs::read_dir(folder)? {
            paths.extend(fs::read_to_string(entry?.path())?.lines().map(PathBuf::from));
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_and_not_judged_is_told() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(unjudged(folder.path()).unwrap(), BTreeSet::new());
        for (kind, program, paths) in [("begun", "1", "/a\n/b\n"), ("begun", "2", "/c\n"), ("judged", "3", "/a\n/c\n")]
        {
            fs::create_dir_all(folder.path().join(kind)).unwrap();
            fs::write(folder.path().join(kind).join(program), paths).unwrap();
        }
        assert_eq!(unjudged(folder.path()).unwrap(), BTreeSet::from([PathBuf::from("/b")]));
    }
}
