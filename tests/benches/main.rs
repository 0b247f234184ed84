//! `make bench`: figures of the release build, printed for people. Compares nothing with absolute times and fails only when an answer is wrong, or a goal is missed that no
//! machine can be blamed for: requests, bytes, and memory of what is built as it is released.
//! I/O: processes, loopback HTTP, stdout.

mod beat;
mod changes;
mod cost;
mod figures;
mod goals;
mod local_kusto;
mod operator;
mod programs;
mod scale;

use std::process::ExitCode;

use goals::Goals;
use tests::process::starts_released_programs;

#[tokio::main]
async fn main() -> ExitCode {
    if !starts_released_programs() {
        println!("note: these programs were built with the tests; `make bench` builds them for release");
    }
    // `make bench PARTS=operator` runs one part; cargo may add `--bench` itself.
    let parts: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let is_asked = |part: &str| parts.is_empty() || parts.iter().any(|asked| asked == part);
    let mut goals = Goals::default();
    if is_asked("local-kusto") {
        local_kusto::run().await;
    }
    if is_asked("programs") {
        programs::run().await;
    }
    if is_asked("beat") {
        beat::run(&mut goals).await;
    }
    if is_asked("scale") {
        scale::run(&mut goals).await;
    }
    if is_asked("changes") {
        changes::run(&mut goals).await;
    }
    if is_asked("operator") {
        operator::run(&mut goals).await;
    }
    goals.end()
}
