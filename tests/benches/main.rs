//! `make bench`: figures of the release build, printed for people. Compares nothing with absolute times and fails only when an answer is wrong.
//! I/O: processes, loopback HTTP, stdout.

mod figures;
mod local_kusto;
mod operator;
mod programs;

#[tokio::main]
async fn main() {
    if cfg!(debug_assertions) {
        println!("note: this is a debug build; `make bench` builds for release");
    }
    local_kusto::run().await;
    programs::run().await;
    operator::run().await;
}
