//! `judge-recordings FOLDER`: has Microsoft's parser read every text that `kusto-local --record` wrote there. What a server refused may be no KQL: tests of
//! errors send such. Called by `make stories` for the texts of kusto-local's own tests. I/O: files, one Node process.

use std::{env, path::PathBuf, process::ExitCode};

use tests::oracle::{Names, Oracle};

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1).map(PathBuf::from) else {
        println!("usage: judge-recordings FOLDER");
        return ExitCode::from(2);
    };
    let judged = Oracle::start().and_then(|mut oracle| oracle.judge_recordings(&folder, Names::AreTheServers));
    let verdict = match judged {
        Ok(verdict) => verdict,
        Err(error) => {
            println!("{error}");
            return ExitCode::FAILURE;
        }
    };
    for complaint in &verdict.refused {
        println!("kusto-local accepts and Microsoft's parser does not: {complaint}");
    }
    // Tests of errors send them. Listed, so that whoever adds one sees whether it is what was meant.
    for complaint in &verdict.refused_by_both {
        println!("is no KQL to either: {}", complaint.lines().nth(1).unwrap_or(complaint));
    }
    println!(
        "Microsoft's parser read {} texts of kusto-local's own tests; {} that kusto-local accepts are no KQL to it, {} are to neither",
        verdict.texts,
        verdict.refused.len(),
        verdict.refused_by_both.len()
    );
    let accepted = verdict.texts - verdict.refused.len() - verdict.refused_by_both.len();
    if verdict.refused.is_empty() && accepted > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
