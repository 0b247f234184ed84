//! `make bench`: figures of the release build, printed for people. Compares nothing with absolute times and fails only when an answer is wrong, or a program at
//! rest takes more memory than its goal.
//! I/O: processes, loopback HTTP, stdout.

mod beat;
mod figures;
mod local_kusto;
mod operator;
mod programs;
mod scale;

#[tokio::main]
async fn main() {
    if cfg!(debug_assertions) {
        println!("note: this is a debug build; `make bench` builds for release");
    }
    // `make bench PARTS=operator` runs one part; cargo adds `--bench` itself.
    let parts: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let is_asked = |part: &str| parts.is_empty() || parts.iter().any(|asked| asked == part);
    if is_asked("local-kusto") {
        local_kusto::run().await;
    }
    if is_asked("programs") {
        programs::run().await;
    }
    if is_asked("beat") {
        beat::run().await;
    }
    if is_asked("scale") {
        scale::run().await;
    }
    if is_asked("operator") {
        operator::run().await;
    }
}
