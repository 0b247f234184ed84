//! What is promised of figures. A goal that is missed fails the run, but not before every figure is printed; a time is told only, since the machine decides it. I/O: stdout.

use std::process::ExitCode;

use crate::figures::{is_as_released, line};

/// Those that were missed.
#[derive(Debug, Default)]
pub(crate) struct Goals(Vec<String>);

impl Goals {
    /// A figure that must not be higher.
    pub(crate) fn at_most(&mut self, what: &str, figure: f64, most: f64) {
        // What cannot be measured keeps no goal.
        self.judge(what, &format!("{}, at most {}", short(figure), short(most)), figure <= most);
    }

    /// A figure of a process that must not be higher, where the process is as it is released: else the machine has its part in it, and that is told.
    pub(crate) fn as_released(&mut self, pid: u32, what: &str, figure: f64, most: f64) {
        if is_as_released(pid) {
            self.at_most(what, figure, most);
        } else {
            let found =
                format!("NOT JUDGED: {}, by a program that is not built and linked as it is released", short(figure));
            line(&format!("goal: {what}"), &found);
        }
    }

    /// What must be so.
    pub(crate) fn judge(&mut self, what: &str, found: &str, is_kept: bool) {
        let verdict = if is_kept { "PASS" } else { "FAIL" };
        line(&format!("goal: {what}"), &format!("{verdict}: {found}"));
        if !is_kept {
            self.0.push(format!("{what}: {found}"));
        }
    }

    /// A time that is wanted, which no run fails for.
    pub(crate) fn time(what: &str, seconds: f64, goal: f64) {
        let verdict = if seconds <= goal { "met" } else { "missed" };
        line(&format!("goal: {what}"), &format!("goal {goal} s: {verdict}, {seconds:.2} s"));
    }

    /// How the run ends.
    pub(crate) fn end(self) -> ExitCode {
        if self.0.is_empty() {
            return ExitCode::SUCCESS;
        }
        println!("Goals that were missed:");
        for missed in self.0 {
            println!("  {missed}");
        }
        ExitCode::FAILURE
    }
}

/// Two digits where there is a fraction.
fn short(figure: f64) -> String {
    if figure.fract() == 0.0 { format!("{figure:.0}") } else { format!("{figure:.2}") }
}
