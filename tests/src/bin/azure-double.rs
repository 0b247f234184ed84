//! `azure-double`: the double of Azure as a program of its own, for judges that are not written in Rust. It prints one line of JSON that says how to get to it,
//! runs until its standard input ends, and then prints the rules that were broken: exit code 1 if there are any. I/O: what the double does, standard streams.

use std::{
    env,
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use serde_json::{Map, Value, json};
use tests::azure::{AzureDouble, AzureOptions};
use tokio::io::AsyncReadExt as _;

const USAGE: &str = "usage: azure-double [--listen PORT] [--public-url URL] [--record FILE] [--plain] [--page-size N] [--create-seconds N]

  --listen PORT       the port of Azure Resource Manager; without it any
  --public-url URL    links in answers begin with this: the address of a proxy in front
  --record FILE       exchanges are appended, one line of JSON each, without tokens
  --plain             HTTP in place of TLS
  --page-size N       entries of a list in one answer
  --create-seconds N  how long a cluster is created";

#[tokio::main]
async fn main() -> ExitCode {
    let options = match options(env::args().skip(1)) {
        Ok(options) => options,
        Err(wrong) => {
            say(&format!("{wrong}\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    let double = AzureDouble::start(options).await;
    let environment: Map<String, Value> =
        double.workload_identity().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let greeting = json!({
        "arm": double.url(), "imds": double.imds_url(), "ca": double.ca_file(), "environment": environment,
    });
    println!("{greeting}");
    until_input_ends().await;
    let violations = double.violations();
    for violation in &violations {
        say(violation);
    }
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<AzureOptions, String> {
    let mut options = AzureOptions::default();
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{name} wants a value"));
        let number = |text: &str| format!("{name} wants a number, not '{text}'");
        match name.as_str() {
            "--listen" => {
                let text = value()?;
                options.listen = Some(text.parse().map_err(|_| number(&text))?);
            }
            "--public-url" => options.public_url = Some(value()?),
            "--record" => options.record = Some(value()?.into()),
            "--plain" => options.plain = true,
            "--page-size" => {
                let text = value()?;
                options.page_size = text.parse().map_err(|_| number(&text))?;
            }
            "--create-seconds" => {
                let text = value()?;
                options.durations.create = Duration::from_secs(text.parse().map_err(|_| number(&text))?);
            }
            _ => return Err(format!("'{name}' is no option")),
        }
    }
    Ok(options)
}

async fn until_input_ends() {
    let mut input = tokio::io::stdin();
    let mut ignored = [0; 1024];
    // An input that cannot be read has ended as well.
    while input.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
}

/// On standard error; that nobody reads it is no reason to end otherwise.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
