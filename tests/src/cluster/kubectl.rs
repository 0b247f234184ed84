//! kubectl itself, from the program of `tests/kstatus`. I/O: one process for each command, a temporary folder.

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

use super::{control_plane::ControlPlane, kstatus, namespace::TestNamespace};

/// A person's kubectl.
#[derive(Debug)]
pub struct Kubectl {
    program: PathBuf,
    /// The person's home, with what kubectl keeps there.
    home: TempDir,
    namespace: Option<String>,
}

impl Kubectl {
    /// kubectl without a cluster; where there is none that is said, and in CI it is a failure.
    ///
    /// # Panics
    /// In CI, if it has not been built.
    pub fn find() -> Option<Self> {
        let home = tempfile::tempdir().expect("a temporary folder can be made");
        kstatus::program().map(|program| Self { program, home, namespace: None })
    }

    /// With all rights, in a test's namespace.
    ///
    /// # Panics
    /// If its configuration cannot be written.
    pub fn of(self, test: &TestNamespace) -> Self {
        Self { namespace: Some(test.name.clone()), ..self.on(test.plane) }
    }

    /// With all rights on a control plane, in the namespaces that objects name.
    ///
    /// # Panics
    /// If its configuration cannot be written.
    pub fn on(self, plane: &ControlPlane) -> Self {
        fs::write(self.kubeconfig(), plane.admin_kubeconfig().to_string()).expect("the folder can be written");
        self
    }

    fn kubeconfig(&self) -> PathBuf {
        self.home.path().join("kubeconfig")
    }

    /// What a command prints that reads `input`.
    ///
    /// # Panics
    /// If it fails; with what it says.
    pub fn run(&self, arguments: &[&str], input: &str) -> String {
        let output = self.output(arguments, input);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {said}\n{input}");
        String::from_utf8(output.stdout).expect("kubectl prints text")
    }

    /// What a command says that must fail.
    ///
    /// # Panics
    /// If it does not.
    pub fn refused(&self, arguments: &[&str], input: &str) -> String {
        let output = self.output(arguments, input);
        assert!(!output.status.success(), "kubectl {arguments:?} did\n{input}");
        String::from_utf8(output.stderr).expect("kubectl says text")
    }

    fn output(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(&self.program)
            .arg("kubectl")
            .args(self.namespace.iter().map(|namespace| format!("--namespace={namespace}")))
            .args(arguments)
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.kubeconfig())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be started: {error}", self.program.display()));
        let mut stdin = child.stdin.take().expect("stdin is piped");
        // A command that does not read it may have ended.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("kubectl ends")
    }
}
