//! A hub whose requests can be made to fail, and what its agent makes of it, run after run. I/O: processes, loopback HTTP, a temporary folder.

use std::{
    collections::BTreeSet,
    fmt::Display,
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    panic::resume_unwind,
    path::PathBuf,
    sync::Mutex,
    time::Duration,
};

use futures::future::join_all;
use jiff::Timestamp;
use kql::{
    names::{DatabaseName, TableName},
    statements::{ReadLeft, ReadMembers, ReadOwnership},
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{kusto::KustoServer, process::Process};
use tokio::time;

use crate::support::{SOON, judge};

/// How many passes after a fault all is as it should be.
pub(crate) const UNTIL_RIGHT: usize = 2;

/// How many passes are quiet then.
pub(crate) const QUIET: usize = 20;

/// The databases of a hub.
pub(crate) const DATABASES: [&str; 3] = ["FleetDiscovery", "Logs", "Metrics"];

/// How a partition's beat begins that goes by command. A hub's agent writes none.
pub(crate) const BEAT: &str = ".ingest inline into table ['Heartbeats']";

/// Each kind of fault that `kusto-local` can make at any request. Some do nothing at most of them: see [`spares`].
pub(crate) fn faults() -> Vec<Value> {
    vec![
        json!({"status": 429}),
        json!({"status": 500}),
        json!({"status": 503}),
        json!({"status": 403}),
        json!({"delay": 300}),
        json!("reset"),
        json!("lost"),
        json!("cut"),
        json!("html"),
        json!("oneApiErrors"),
        json!("hasErrors"),
        json!("truncated"),
        json!("failedScript"),
        json!({"redirect": "https://evil.example/"}),
        json!("failedIngest"),
    ]
}

/// Whether a request that is neither a script nor an ingestion is answered under this kind of fault as without it, if later.
pub(crate) fn spares(fault: &Value) -> bool {
    fault["delay"].is_number() || *fault == "failedScript" || *fault == "failedIngest"
}

/// Stories side by side: most of the time of each is spent in waiting before something is sent again. One that fails fails the test.
pub(crate) async fn side_by_side<F>(stories: impl Iterator<Item = F>) -> Vec<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let done = join_all(stories.map(tokio::spawn)).await.into_iter();
    done.map(|story| story.unwrap_or_else(|error| resume_unwind(error.into_panic()))).collect()
}

/// A request of one of our agents, as the server has recorded it.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    /// When it arrived.
    pub(crate) at: Timestamp,
    /// The database that it names; empty where it names none.
    pub(crate) database: String,
    pub(crate) text: String,
    /// Whether it failed on purpose.
    pub(crate) is_struck: bool,
}

impl Sent {
    /// Of a line of a recording; `None` where nobody of ours sent it.
    fn read(line: &str) -> Option<Self> {
        let line: Line = serde_json::from_str(line).ok()?;
        line.client_request_id?.starts_with("adx-federation.").then(|| Self {
            at: line.time.parse().expect("a line has its time"),
            database: line.db.unwrap_or_default(),
            text: line.csl.unwrap_or_default(),
            is_struck: line.fault.is_some(),
        })
    }

    /// Whether it is a command that changes something.
    pub(crate) fn writes(&self) -> bool {
        self.text.starts_with('.') && !self.text.starts_with(".show ")
    }

    /// Whether it is a command that takes something away from the two partitions that are federated at all times, or the function of what all have.
    pub(crate) fn takes_from_the_live(&self) -> bool {
        let lacks_one = |line: &str| !line.contains("'http://127.0.0.1:1'") || !line.contains("'http://127.0.0.2:1'");
        self.text.lines().any(|line| {
            (line.starts_with(".alter entity_group ['Logs_Partitions") && lacks_one(line))
                || (line.starts_with(".drop ") && (line.contains("Logs_Partitions") || line.contains("federated_A")))
        })
    }
}

/// What of a line of a recording is read: the rest of it is long.
#[derive(Deserialize)]
struct Line {
    time: String,
    client_request_id: Option<String>,
    db: Option<String>,
    csl: Option<String>,
    fault: Option<IgnoredAny>,
}

/// Which requests of an agent are not done until it is killed. It makes a difference where it sends several side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// One, and all behind it.
    AllFrom,
    /// One alone.
    One,
}

/// A pass that has ended.
#[derive(Debug)]
pub(crate) struct Pass {
    pub(crate) at: Timestamp,
    pub(crate) outcome: String,
}

impl Pass {
    /// Of a line of an agent's log.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let (before, outcome) = line.split_once("pass ended outcome=")?;
        let at = before.split_whitespace().next()?.parse().expect("a line begins with its time");
        Some(Self { at, outcome: outcome.split_whitespace().next()?.to_owned() })
    }
}

/// A hub server whose requests can be made to fail, and its agent's document.
pub(crate) struct Hub {
    pub(crate) server: KustoServer,
    pub(crate) folder: TempDir,
    pub(crate) document: PathBuf,
    databases: Vec<String>,
    recorded: Mutex<Recorded>,
}

/// What our agents have sent so far, as far as it was read.
#[derive(Default)]
struct Recorded {
    /// Bytes of the recording.
    read: u64,
    sent: Vec<Sent>,
}

impl Hub {
    /// A hub of three partitions, with its tables.
    pub(crate) async fn start() -> Self {
        let hub = Self::start_without_tables().await;
        hub.document("entityGroups: [{by: geo}]");
        hub.pass().await;
        hub
    }

    /// A hub that no agent has seen, and no document yet.
    pub(crate) async fn start_without_tables() -> Self {
        Self::start_with_databases(&DATABASES).await
    }

    /// The same, with these databases.
    pub(crate) async fn start_with_databases(databases: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let server = KustoServer::start_faulty(databases, &folder.path().join("hub.jsonl")).await;
        let document = folder.path().join("hub.yaml");
        let databases = databases.iter().map(|database| (*database).to_owned()).collect();
        Self { server, folder, document, databases, recorded: Mutex::default() }
    }

    /// Writes the document, with these fields of a federation.
    pub(crate) fn document(&self, fields: &str) {
        self.document_with_passes("200ms", fields);
    }

    /// The same, with passes this often. Partitions beat once for a turn, which takes a quarter of an hour on a machine that has much else to do: nobody has missed a beat by
    /// then, but where the fields say otherwise.
    pub(crate) fn document_with_passes(&self, every: &str, fields: &str) {
        let says_otherwise = fields.contains("heartbeatInterval") || fields.contains("heartbeatTTL");
        let pace = if says_otherwise { "" } else { "heartbeatTTL: 12h, heartbeatInterval: 4h, " };
        let text = format!(
            "apiVersion: adx-mon.azure.com/v1\nkind: ADXCluster\nmetadata: {{name: hub}}\nspec:\n  clusterName: hub\n  endpoint: '{}'\n  role: Federated\n  federation: {{heartbeatDatabase: FleetDiscovery, heartbeatTable: Heartbeats, reconcileInterval: {every}, {pace}{fields}}}\n",
            self.server.url
        );
        fs::write(&self.document, text).expect("the folder can be written");
    }

    /// The document blocks a partition, named by the end of its address.
    fn block(&self, host: &str) {
        self.document(&format!("entityGroups: [{{by: geo}}], blockedPartitions: ['http://127.0.0.{host}:1']"));
    }

    /// The next beats: there is always something to do. With more, there is one more function and one more database with its groups, which only a fourth partition has, and the third
    /// is blocked; else the fourth is.
    pub(crate) async fn turn(&self, with: bool) {
        self.block(if with { "3" } else { "4" });
        let logs: &[&str] = if with { &["A", "B"] } else { &["A"] };
        self.beat(&[("Logs", logs)]).await;
        self.beat_of(&["4"], &json!([{"database": "Metrics", "tables": ["M"]}])).await;
    }

    /// Whether all of a turn is there, and what must never go.
    pub(crate) async fn is_complete(&self, with: bool) -> Result<(), String> {
        for database in DATABASES {
            self.is_complete_in(database, with, !with).await?;
        }
        Ok(())
    }

    /// Whether one database has all that it should have, with more or without; the third partition is a member or not.
    pub(crate) async fn is_complete_in(&self, database: &str, with: bool, has_third: bool) -> Result<(), String> {
        self.has_groups(database, with, 1 + usize::from(with), has_third).await
    }

    /// The same with groups of so many databases of the partitions.
    pub(crate) async fn has_groups(
        &self,
        database: &str,
        with: bool,
        groups: usize,
        has_third: bool,
    ) -> Result<(), String> {
        let content = self.content_of(database).await;
        let count = |text: &str| content.iter().filter(|line| line.contains(text)).count();
        let functions = match database {
            "Logs" => 1 + usize::from(with),
            "Metrics" => usize::from(with),
            _ => 0,
        };
        // Each group is in every database, and has one of its geography.
        let third = if has_third { 2 * groups } else { 0 };
        let found = [count("federated_"), count("_Partitions\""), count("_Partitions_EU\""), count("127.0.0.3")];
        let expected = [functions, groups, groups, third];
        if found == expected { Ok(()) } else { Err(format!("{found:?} instead of {expected:?}: {content:#?}")) }
    }

    /// Two partitions beat at all times, with a table that is always there.
    pub(crate) async fn has_kept_the_live(&self) -> Result<(), String> {
        let content = self.content().await;
        let has_both = |line: &&String| line.contains("127.0.0.1") && line.contains("127.0.0.2");
        let groups = ["Logs_Partitions\"", "Logs_Partitions_EU\""];
        let is_whole = content.iter().any(|line| line.contains("federated_A"))
            && groups
                .iter()
                .all(|group| content.iter().filter(|line| line.contains(group)).filter(has_both).count() == 2);
        if is_whole { Ok(()) } else { Err(format!("{content:#?}")) }
    }

    /// All partitions beat with these tables of databases.
    pub(crate) async fn beat(&self, databases: &[(&str, &[&str])]) {
        let databases = databases.iter().filter(|(_, tables)| !tables.is_empty());
        let schema: Value = databases.map(|(name, tables)| json!({"database": name, "tables": tables})).collect();
        self.beat_with(&schema).await;
    }

    /// All partitions beat with this schema.
    pub(crate) async fn beat_with(&self, schema: &Value) {
        self.beat_of(&["1", "2", "3"], schema).await;
    }

    /// Some partitions beat with this schema, each named by the end of its address.
    pub(crate) async fn beat_of(&self, hosts: &[&str], schema: &Value) {
        let endpoints: Vec<String> = hosts.iter().map(|host| format!("http://127.0.0.{host}:1")).collect();
        self.beat_as(&endpoints, "EU", schema).await;
    }

    /// Whoever it may be beats as these clusters, of one geography, with this schema.
    pub(crate) async fn beat_as(&self, endpoints: &[impl Display], geo: &str, schema: &Value) {
        let schema = schema.to_string().replace('"', "\"\"");
        let row =
            |endpoint| format!("2026-01-01T00:00:00Z,{endpoint},\"{schema}\",\"{{\"\"geo\"\":\"\"{geo}\"\"}}\"\n");
        let rows: String = endpoints.iter().map(row).collect();
        let command = format!(".ingest inline into table Heartbeats <|\n{rows}");
        self.server.command("FleetDiscovery", &command).await.expect("the hub takes heartbeats");
    }

    /// One pass of a new agent; its exit code, and what it printed.
    pub(crate) async fn pass(&self) -> (Option<i32>, String) {
        self.run(&["--once"]).await
    }

    /// A new agent with these arguments beside its document, until it ends.
    pub(crate) async fn run(&self, flags: &[&str]) -> (Option<i32>, String) {
        let document = self.document.to_str().expect("the path is text");
        let arguments: Vec<String> =
            ["--config", document].iter().chain(flags).map(|argument| (*argument).to_owned()).collect();
        let mut agent = Process::start("agent-hub", "agent-hub", &arguments);
        let status = agent.exited_within(Duration::from_secs(180)).await;
        (status.code(), agent.output())
    }

    /// An agent that goes on, and tells about itself.
    pub(crate) fn agent(&self) -> Process {
        let document = self.document.to_str().expect("the path is text");
        let arguments = ["--config", document, "--admin", "127.0.0.1:0"].map(str::to_owned);
        Process::start("agent-hub", "agent-hub", &arguments)
    }

    pub(crate) fn fail(&self, rules: &Value) {
        self.server.fail(rules);
    }

    /// A new agent is killed with SIGKILL when it has sent so many requests and one more, which is not done. Whether its pass came to that one.
    pub(crate) async fn kill_an_agent_at(&self, request: usize, which: Unanswered) -> bool {
        let mut rule = json!({"skip": request, "fault": {"delay": 600_000}});
        if which == Unanswered::One {
            rule["count"] = 1.into();
        }
        self.fail(&json!([rule]));
        let before = self.requests();
        let mut agent = self.agent();
        let deadline = time::Instant::now() + SOON;
        while self.requests() < before + request && !agent.output().contains("pass ended") {
            assert!(time::Instant::now() < deadline, "{}", agent.output());
            time::sleep(Duration::from_millis(20)).await;
        }
        time::sleep(Duration::from_millis(50)).await;
        agent.kill().await;
        self.fail(&json!([]));
        !agent.output().contains("pass ended")
    }

    /// The names of functions, and groups with their members.
    pub(crate) async fn content(&self) -> Vec<String> {
        let mut content = [self.content_of("Logs").await, self.content_of("Metrics").await].concat();
        content.sort();
        content
    }

    /// The same of one database.
    async fn content_of(&self, database: &str) -> Vec<String> {
        let mut content = Vec::new();
        for text in [
            ".show functions | where Name != 'federation_status' | project Name",
            ".show entity_groups | project Name, Entities",
        ] {
            let table = self.server.command(database, text).await.expect("the hub answers");
            content.extend(table.rows.iter().map(|row| format!("{database} {row:?}")));
        }
        content
    }

    /// All that agents leave on their hub: functions and groups as they are, which groups are recorded as ours, how objects were left, and what is remembered of partitions. Without what tells how it
    /// came to be so: times, the order of a group's members, guards that are over, what a pass could not do (another agent mends that within the hour, as it does guards), and the
    /// schema that one had that is not federated, or the zone that one had before it was blocked.
    pub(crate) async fn whole_content(&self) -> Vec<String> {
        let mut content = Vec::new();
        for database in &self.databases {
            let functions = ".show functions | project Name, Folder, DocString, Body | order by Name asc";
            let functions = self.server.command(database, functions).await.expect("the hub answers");
            content.extend(functions.rows.iter().map(|row| format!("{database} {row:?}")));
            let groups = self.server.command(database, ".show entity_groups | order by Name asc").await;
            let groups = groups.expect("the hub answers");
            for (group, members) in groups.column("Name").iter().zip(groups.column("Entities")) {
                let members: BTreeSet<String> = serde_json::from_str(&members).expect("it is a list of texts");
                content.push(format!("{database} {group} {members:?}"));
            }
        }
        let database = DatabaseName::new("FleetDiscovery").expect("it follows Kusto's rules");
        let [objects, members] = ["AdxFederationObjects", "AdxFederationMembers"]
            .map(|table| TableName::new(table).expect("it follows Kusto's rules"));
        // As the next agent reads it.
        let groups = ReadOwnership { database: &database, table: &objects }.request();
        let left = ReadLeft { database: &database, table: &objects }.request();
        let members = ReadMembers { database: &database, table: &members }.request();
        let of_groups = "project Database, Name, IsMade | order by Database asc, Name asc";
        // Another fleet has other members, and the same number of contents.
        let of_left = "where isnull(Records) | project Database, Kind, Name, Content = iff(Kind == 'Members', strcat(array_length(split(Content, ' ')), ' contents'), Content) | order by Kind asc, Name asc, Database asc";
        let of_members = "where Kind != 'Incomplete' and (Kind != 'Guard' or State != 'over') | project Kind, Name, State, IsSilent = isnotnull(SilentSince), Returns, Reason, Zone = iff(State == 'blocked', '', Zone), SchemaHash = iff(State == 'live', SchemaHash, '') | order by Kind asc, Name asc";
        for (read, what) in [(groups.text(), of_groups), (left.text(), of_left), (members.text(), of_members)] {
            let recorded = self.server.query(database.as_str(), &format!("{read}\n| {what}")).await;
            content.extend(recorded.expect("the hub answers").rows.iter().map(|row| format!("recorded {row:?}")));
        }
        content
    }

    /// What our agents have sent since the recording was as long as `read`, which is as long as it is then.
    pub(crate) fn sent_since(&self, read: &mut u64) -> Vec<Sent> {
        let mut recording = File::open(&self.server.recording).expect("the recording can be read");
        recording.seek(SeekFrom::Start(*read)).expect("the recording can be read");
        let mut bytes = Vec::new();
        recording.read_to_end(&mut bytes).expect("the recording can be read");
        // A line may be on its way.
        bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
        *read += bytes.len() as u64;
        let lines = String::from_utf8(bytes).expect("a recording is text");
        lines.lines().filter_map(Sent::read).collect()
    }

    /// What our agents have sent so far and is so. A story asks often, so that each line is read once.
    fn all_sent(&self, is_so: impl Fn(&Sent) -> bool) -> Vec<Sent> {
        let mut recorded = self.recorded.lock().expect("no holder of this lock panics");
        let Recorded { read, sent } = &mut *recorded;
        sent.extend(self.sent_since(read));
        sent.iter().filter(|sent| is_so(sent)).cloned().collect()
    }

    /// The texts that our agents have sent so far.
    pub(crate) fn sent(&self) -> Vec<String> {
        self.all_sent(|_| true).into_iter().map(|sent| sent.text).collect()
    }

    /// How many of them hold a text.
    pub(crate) fn sent_with(&self, text: &str) -> usize {
        self.all_sent(|sent| sent.text.contains(text)).len()
    }

    /// Whether a request with a text has failed on purpose.
    pub(crate) fn has_struck(&self, text: &str) -> bool {
        !self.all_sent(|sent| sent.is_struck && sent.text.contains(text)).is_empty()
    }

    /// The commands among them that change something.
    pub(crate) fn written(&self) -> Vec<String> {
        self.all_sent(Sent::writes).into_iter().map(|sent| sent.text).collect()
    }

    /// What was sent that holds none of these texts.
    pub(crate) fn sent_without(&self, known: &[&str]) -> Vec<String> {
        let is_known = |text: &String| known.iter().any(|known| text.contains(known));
        self.sent().into_iter().filter(|text| !is_known(text)).collect()
    }

    /// How many requests were answered so far.
    pub(crate) fn requests(&self) -> usize {
        self.server.recorded("")
    }

    /// An agent that goes on finds nothing to do.
    pub(crate) async fn ends_quietly(self) {
        assert_eq!(self.rests().await, Ok(()));
        self.end().await;
    }

    /// The same, and the hub goes on.
    pub(crate) async fn rests(&self) -> Result<(), String> {
        let mut agent = self.agent();
        let quiet = self.stays_quiet(&agent).await;
        agent.stop().await;
        quiet
    }

    /// An agent that remembers nothing, in a process of its own, finds all as it should be.
    pub(crate) async fn has_nothing_to_do(&self) -> Result<(), String> {
        let before = self.written().len();
        let (code, output) = self.pass().await;
        let more = self.written().split_off(before);
        if code == Some(0) && more.is_empty() { Ok(()) } else { Err(format!("{code:?}, {more:?}: {output}")) }
    }

    /// Ends the server; what it was sent is in the folder.
    pub(crate) async fn stop(self) -> TempDir {
        let Self { mut server, folder, .. } = self;
        server.process().stop().await;
        folder
    }

    /// Microsoft's parser reads what was sent.
    pub(crate) async fn end(self) {
        judge(self.stop().await.path());
    }

    /// The fault is over: within two passes all is as it should be, and the next has nothing to write. Where that pass has found all as it should be, another one
    /// finds the same hub and does the same, as an agent that runs once remembers nothing. What a process remembers from pass to pass is for
    /// [`settles`](Self::settles).
    pub(crate) async fn converges<F>(&self, is_complete: impl Fn() -> F) -> Result<(), String>
    where
        F: Future<Output = Result<(), String>>,
    {
        let mut passes = 0;
        loop {
            let written = self.written().len();
            let (code, output) = self.pass().await;
            passes += 1;
            accuses_nobody(&output)?;
            let complete = is_complete().await;
            let more = self.written().split_off(written);
            if (code, &complete) == (Some(0), &Ok(())) && more.is_empty() {
                return Ok(());
            }
            if passes >= 2 && (code, &complete) != (Some(0), &Ok(())) {
                return Err(format!("after {passes} passes: {code:?} {complete:?}: {output}"));
            }
            if passes == 3 {
                return Err(format!(
                    "two passes after the fault there is still something to write: {more:?}: {output}"
                ));
            }
        }
    }

    /// The fault is over, and an agent goes on: once so many passes have ended since then, all is as it should be, and in twenty after those nothing is written.
    pub(crate) async fn settles<F>(
        &self,
        agent: &Process,
        since: Timestamp,
        within: usize,
        is_complete: impl Fn() -> F,
    ) -> Result<(), String>
    where
        F: Future<Output = Result<(), String>>,
    {
        let deadline = time::Instant::now() + Duration::from_secs(600);
        let passes = loop {
            let mut passes: Vec<Pass> = agent.output().lines().filter_map(Pass::read).collect();
            // What it prints may be read late on a busy machine.
            passes.retain(|pass| pass.at > since);
            if passes.len() >= within + QUIET {
                break passes;
            }
            if time::Instant::now() > deadline {
                return Err(format!("only {} passes within ten minutes: {}", passes.len(), agent.output()));
            }
            time::sleep(Duration::from_millis(100)).await;
        };
        let right = passes[within - 1].at;
        let late = self.all_sent(|sent| sent.writes() && sent.at > right);
        let loud: Vec<&Pass> = passes[within..].iter().filter(|pass| pass.outcome != "unchanged").collect();
        if !late.is_empty() || !loud.is_empty() {
            return Err(format!(
                "{within} passes after the fault there is still something to write: {late:#?}: {loud:?}: {}",
                agent.output()
            ));
        }
        // Nobody has written: what is so now was so then.
        is_complete().await?;
        accuses_nobody(&agent.output())
    }

    /// Twenty more passes of an agent that goes on, in which nothing is written but beats of partitions.
    pub(crate) async fn stays_quiet(&self, agent: &Process) -> Result<(), String> {
        const ENDED: &str = "pass ended outcome=unchanged";
        let (before, written) = (agent.output().matches(ENDED).count(), self.written().len());
        let deadline = time::Instant::now() + Duration::from_secs(600);
        while agent.output().matches(ENDED).count() < before + QUIET {
            if time::Instant::now() > deadline {
                return Err(format!("no twenty quiet passes: {}", agent.output()));
            }
            time::sleep(Duration::from_millis(100)).await;
        }
        let mut more = self.written().split_off(written);
        more.retain(|text| !text.starts_with(BEAT));
        if !more.is_empty() {
            return Err(format!("a quiet world is written to: {more:?}: {}", agent.output()));
        }
        accuses_nobody(&agent.output())
    }
}

/// In these stories nobody but our agents does anything to their objects.
pub(crate) fn accuses_nobody(output: &str) -> Result<(), String> {
    if output.contains("by somebody") { Err(format!("it tells of somebody: {output}")) } else { Ok(()) }
}
