//! `judge-recordings FOLDER`: has Microsoft's parser read every text that `kusto-local --record` wrote there. What a server refused may be no KQL: tests of
//! errors send such. `judge-recordings --readings` compares what that parser has read already, a JSON line each, with what our lexer reads: the judges in Python do so.
//! Called by `make stories` for the texts of kusto-local's own tests, and to see that stories had all of theirs judged. I/O: files, one Node process.

use std::{env, io, path::Path, process::ExitCode};

use serde::Deserialize;
use tests::{
    oracle::{Names, Oracle, Reading, difference, is_read},
    recordings::unjudged,
};

fn main() -> ExitCode {
    match env::args_os().nth(1) {
        Some(argument) if argument == "--readings" => compare(io::stdin().lines().map_while(Result::ok)),
        Some(folder) => judge(Path::new(&folder)),
        None => {
            println!("usage: judge-recordings FOLDER | --readings");
            ExitCode::from(2)
        }
    }
}

/// A text with what Microsoft's parser read in it.
#[derive(Debug, Deserialize)]
struct Read {
    text: String,
    reading: Reading,
}

/// Whether our lexer reads the same in each of these texts. What it cannot read is no text of ours.
fn compare(lines: impl Iterator<Item = String>) -> ExitCode {
    let (mut compared, mut different) = (0, 0);
    for line in lines {
        let Read { text, reading } = match serde_json::from_str(&line) {
            Ok(read) => read,
            Err(error) => {
                println!("{line:?} is no reading: {error}");
                return ExitCode::FAILURE;
            }
        };
        if is_read(&text) {
            compared += 1;
            if let Some(why) = difference(&text, &reading) {
                different += 1;
                println!("{text}\n  {why}");
            }
        }
    }
    println!("{compared} texts were compared, {different} are read otherwise by Microsoft's parser than by ours");
    if different == 0 && compared > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn judge(folder: &Path) -> ExitCode {
    let unjudged = match unjudged(folder) {
        Ok(unjudged) => unjudged,
        Err(error) => {
            println!("failed to read which recordings were begun: {error}");
            return ExitCode::FAILURE;
        }
    };
    for recording in &unjudged {
        println!("no story has had this recording judged: {}", recording.display());
    }
    let judged = Oracle::start().and_then(|mut oracle| oracle.judge_recordings(folder, Names::AreTheServers));
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
    if verdict.refused.is_empty() && unjudged.is_empty() && accepted > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
