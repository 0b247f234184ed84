//! Where make puts what it builds of Go modules. I/O: looks at files.

use std::{env, fs, path::PathBuf};

/// The program that a variable of make's names; without it the newest one whose name begins so.
pub(super) fn built(variable: &str, name: &str) -> Option<PathBuf> {
    if let Some(path) = env::var_os(variable) {
        return Some(PathBuf::from(path)).filter(|path| path.is_file());
    }
    let cache = env::var_os("ADX_FEDERATION_CACHE").map_or_else(
        || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cache/adx-federation"),
        PathBuf::from,
    );
    let built = fs::read_dir(cache.join("tools")).into_iter().flatten().flatten().map(|entry| entry.path());
    let built = built.filter(|path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name)));
    built.max_by_key(|path| path.metadata().and_then(|metadata| metadata.modified()).ok())
}
