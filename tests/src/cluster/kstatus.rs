//! kstatus, the library by which Flux and others wait for objects, as a judge of what our conditions say: the client of `tests/kstatus`. I/O: one process for each
//! question.

use std::{
    env,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde::Deserialize;
use serde_json::Value;

use super::built::built;

/// The program that `make kstatus` builds.
#[derive(Debug)]
pub struct Kstatus {
    program: PathBuf,
}

/// What kstatus makes of an object.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Verdict {
    /// `Current`, `InProgress`, `Failed`, ...
    pub status: String,
    /// Why.
    pub message: String,
}

impl Kstatus {
    /// The judge; where there is none that is said, and in CI it is a failure.
    ///
    /// # Panics
    /// In CI, if it has not been built.
    pub fn find() -> Option<Self> {
        program().map(|program| Self { program })
    }

    /// What it makes of an object.
    ///
    /// # Panics
    /// If it does not answer, or refuses the object.
    pub fn judge(&self, object: &Value) -> Verdict {
        let mut child = Command::new(&self.program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be started: {error}", self.program.display()));
        let mut input = child.stdin.take().expect("stdin is piped");
        input.write_all(object.to_string().as_bytes()).expect("kstatus reads an object");
        drop(input);
        let output = child.wait_with_output().expect("kstatus ends");
        assert!(output.status.success(), "kstatus refuses\n{object:#}");
        serde_json::from_slice(&output.stdout).expect("a verdict is JSON")
    }
}

/// The program, which is kubectl as well; where there is none that is said, and in CI it is a failure.
pub(super) fn program() -> Option<PathBuf> {
    let program = built("ADX_FEDERATION_KSTATUS", "kstatus-");
    if program.is_none() {
        assert!(env::var_os("CI").is_none(), "kstatus and kubectl are not built: run `make kstatus` first");
        println!("skipped: kstatus and kubectl are not built (`make kstatus`)");
    }
    program
}
