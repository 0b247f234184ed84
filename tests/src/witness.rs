//! What the suite printed and was told, and the secrets that it used, which are tokens, passwords and signatures: `make stories` looks for the one in the other at its end. I/O: files in the folder that
//! `ADX_FEDERATION_WITNESS` names; without it nothing is kept.

use std::{
    env,
    fs::{self, OpenOptions},
    io::Write as _,
    path::Path,
    process,
};

/// What nobody may print, for tests that have others say it. In lower case: the query for heartbeats folds the case of endpoints, and what is marked must be found afterwards.
pub const PASSWORD: &str = "a-password-that-nobody-may-print";
/// The same, of an address.
pub const SIGNATURE: &str = "a-signature-that-nobody-may-print";

/// Keeps [`PASSWORD`] and [`SIGNATURE`] as secrets.
pub fn mark() {
    [PASSWORD, SIGNATURE].into_iter().for_each(secret);
}

/// Fails if [`PASSWORD`] or [`SIGNATURE`] is in a text.
///
/// # Panics
/// With the text.
pub fn assert_hidden(what: &str, told: &str) {
    for secret in [PASSWORD, SIGNATURE] {
        assert!(!told.contains(secret), "{what}: {told}");
    }
}

/// Keeps what a program of ours printed, or what the API server or an admin port told of it.
pub fn keep(text: &str) {
    append("output", text);
}

/// Keeps a secret that nobody may print.
pub fn secret(secret: &str) {
    append("secrets", &format!("{secret}\n"));
}

/// One file for each kind and test program; a line longer than a pipe's may come in parts, which no token survives, so each text is one write.
fn append(kind: &str, text: &str) {
    let Some(folder) = env::var_os("ADX_FEDERATION_WITNESS") else { return };
    let folder = Path::new(&folder).join(kind);
    fs::create_dir_all(&folder).expect("the folder can be made");
    let file = folder.join(process::id().to_string());
    let mut file = OpenOptions::new().create(true).append(true).open(file).expect("the folder can be written");
    file.write_all(text.as_bytes()).expect("the folder can be written");
}
