//! Reads ADXCluster documents from YAML. I/O: reads the file it is given. Called by the agents and by `operator standalone`; what the documents say is
//! checked by [`super::validate`].

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kql::secrets::{self, ends_with_a_name, redacted_quotes};
use kube::Resource as _;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use serde_saphyr::Location;

use super::{
    effective::fingerprint,
    schema::wrong_types_of_document,
    spec::{ADXCluster, ADXClusterSpec, ADXClusterStatus},
    validate::Violation,
};

/// Why a file gave no documents. Each message names the file.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The file cannot be read.
    #[error("failed to read the document {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not YAML, an unknown field, or a value of the wrong type; the source says where and what.
    #[error("the document {} is wrong", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: ParseError,
    },
    /// No document at all.
    #[error("the file {} holds no ADXCluster document", .0.display())]
    Empty(PathBuf),
    /// More documents than one.
    #[error(
        "the file {} must hold exactly one ADXCluster document; it holds {count} (`operator standalone` takes several)",
        path.display()
    )]
    NotOne {
        /// The file.
        path: PathBuf,
        /// How many it holds.
        count: usize,
    },
}

/// What in a text is no ADXCluster document: the path in the document, the rule, and the value; where YAML itself is the trouble, line and column, and the line
/// itself, which shows the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", line.as_ref().map(|line| format!(": {line}")).unwrap_or_default())]
pub struct ParseError {
    message: String,
    line: Option<String>,
}

/// One document, and what tells its text from any other.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// What it says.
    pub cluster: ADXCluster,
    /// The [`fingerprint`] of the file as it was read.
    pub fingerprint: String,
}

/// Reads a file that holds exactly one document.
///
/// # Errors
/// See [`DocumentError`].
pub fn load_document(path: &Path) -> Result<Document, DocumentError> {
    let (text, mut documents) = load(path)?;
    match (documents.pop(), documents.len()) {
        (Some(cluster), 0) => Ok(Document { cluster, fingerprint: fingerprint(&text) }),
        (last, others) => {
            Err(DocumentError::NotOne { path: path.to_owned(), count: others + usize::from(last.is_some()) })
        }
    }
}

/// Reads a file of one or more documents, separated by `---`.
///
/// # Errors
/// See [`DocumentError`].
pub fn load_documents(path: &Path) -> Result<Vec<ADXCluster>, DocumentError> {
    load(path).map(|(_, documents)| documents)
}

fn load(path: &Path) -> Result<(String, Vec<ADXCluster>), DocumentError> {
    let text = fs::read_to_string(path).map_err(|source| DocumentError::Read { path: path.to_owned(), source })?;
    let documents = parse_documents(&text).map_err(|source| DocumentError::Parse { path: path.to_owned(), source })?;
    if documents.is_empty() {
        return Err(DocumentError::Empty(path.to_owned()));
    }
    Ok((text, documents))
}

/// Reads documents from a YAML text.
///
/// # Errors
/// The first thing in it that is no ADXCluster document, or every value of a wrong type.
pub fn parse_documents(text: &str) -> Result<Vec<ADXCluster>, ParseError> {
    // A reader that knows a text is wanted makes one of 17, and a boolean of "true"; read without that knowledge, values show their own types.
    let values: Result<Vec<Value>, _> = serde_saphyr::from_multiple(text);
    let violations: Vec<_> = values.iter().flatten().flat_map(wrong_types_of_document).collect();
    if !violations.is_empty() {
        let messages: Vec<_> = violations.iter().map(Violation::to_string).collect();
        return Err(ParseError { message: messages.join("; "), line: None });
    }
    let envelopes: Vec<Traced<Envelope>> = serde_saphyr::from_multiple(text).map_err(|error| {
        // Adding the path has made a text of the place; the same reading without the path gives it as a number.
        let location = serde_saphyr::from_multiple::<Envelope>(text).err().and_then(|error| error.location());
        parse_error(text, &error, location)
    })?;
    values.map_err(|error| parse_error(text, &error, error.location()))?;
    Ok(envelopes.into_iter().map(|Traced(envelope)| envelope.into()).collect())
}

fn parse_error(text: &str, error: &serde_saphyr::Error, location: Option<Location>) -> ParseError {
    let line = location.and_then(|location| usize::try_from(location.line()).ok()?.checked_sub(1));
    let message = error.without_snippet().to_string();
    ParseError {
        // The crate's hint speaks to programmers.
        message: redacted_quotes(&message.replace(", set DuplicateKeyPolicy in Options if acceptable", "")),
        line: line.and_then(|line| text.lines().nth(line)).map(|line| shown(line.trim())),
    }
}

/// The beginning of a line, without secrets: what follows a colon is a value here.
fn shown(line: &str) -> String {
    let is_named = |at: usize| ends_with_a_name(line[..at].trim_end_matches([' ', '"', '\'']));
    let named = line.match_indices(':').map(|(at, _)| at).find(|at| is_named(*at));
    let (line, value) = named.map_or((line, ""), |at| (&line[..=at], " …"));
    secrets::shown(&redacted_quotes(line), 128) + value
}

/// Adds the path in the document to an error: YAML's line and column alone do not survive a template.
struct Traced<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Traced<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_path_to_error::deserialize(deserializer).map(Self).map_err(|error| {
            let path = error.path().to_string();
            de::Error::custom(format_args!("{path}: {}", error.into_inner()))
        })
    }
}

/// The document as a file holds it. The derived type ignores what it does not know beside `spec`, and the kind; a file must not be misunderstood.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    #[serde(deserialize_with = "api_version")]
    api_version: (),
    #[serde(deserialize_with = "kind")]
    kind: (),
    metadata: Metadata,
    spec: ADXClusterSpec,
    #[serde(default)]
    status: Option<ADXClusterStatus>,
}

/// The fields of Kubernetes' metadata, so that a misspelt one is an error; what the API server adds is accepted and left out.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    generation: Option<i64>,
    #[serde(default)]
    uid: Option<String>,
    #[serde(default)]
    resource_version: Option<String>,
    #[serde(default, rename = "creationTimestamp")]
    _creation_timestamp: de::IgnoredAny,
    #[serde(default, rename = "deletionGracePeriodSeconds")]
    _deletion_grace_period_seconds: de::IgnoredAny,
    #[serde(default, rename = "deletionTimestamp")]
    _deletion_timestamp: de::IgnoredAny,
    #[serde(default, rename = "finalizers")]
    _finalizers: de::IgnoredAny,
    #[serde(default, rename = "generateName")]
    _generate_name: de::IgnoredAny,
    #[serde(default, rename = "managedFields")]
    _managed_fields: de::IgnoredAny,
    #[serde(default, rename = "ownerReferences")]
    _owner_references: de::IgnoredAny,
    #[serde(default, rename = "selfLink")]
    _self_link: de::IgnoredAny,
}

impl From<Envelope> for ADXCluster {
    fn from(Envelope { api_version: (), kind: (), metadata, spec, status }: Envelope) -> Self {
        let metadata = ObjectMeta {
            name: Some(metadata.name),
            namespace: metadata.namespace,
            labels: metadata.labels,
            annotations: metadata.annotations,
            generation: metadata.generation,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            ..ObjectMeta::default()
        };
        Self { metadata, spec, status }
    }
}

fn api_version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    exactly(deserializer, &ADXCluster::api_version(&()))
}

fn kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    exactly(deserializer, &ADXCluster::kind(&()))
}

fn exactly<'de, D: Deserializer<'de>>(deserializer: D, expected: &str) -> Result<(), D::Error> {
    let value = String::deserialize(deserializer)?;
    if value == expected { Ok(()) } else { Err(de::Error::custom(format_args!("'{value}' must be {expected}"))) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const MINIMAL: &str = "
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata:
  name: minimal-adx-cluster
  labels: {app: my-adx}
spec:
  clusterName: minimal
";

    fn error(from: &str, to: &str) -> String {
        assert!(MINIMAL.contains(from));
        parse_documents(&MINIMAL.replace(from, to)).unwrap_err().to_string()
    }

    #[test]
    fn documents_are_read_one_after_another() {
        let two = format!("{MINIMAL}---\n{}---\n", MINIMAL.replace("minimal-adx-cluster", "other"));
        let documents = parse_documents(&two).unwrap();
        let names: Vec<_> = documents.iter().filter_map(|document| document.metadata.name.as_deref()).collect();
        assert_eq!(names, ["minimal-adx-cluster", "other"]);
        assert_eq!(documents[0].metadata.labels.as_ref().unwrap()["app"], "my-adx");
    }

    #[test]
    fn what_is_no_document_is_refused_with_path_rule_place_and_value() {
        for (from, to, message) in [
            (
                "clusterName: minimal",
                "clusterName: minimal\n  federation:\n    federatedClusters:\n      - endpoint: https://x\n        heartbeatDatabas: x",
                "spec.federation.federatedClusters[0].heartbeatDatabas: unknown field `heartbeatDatabas`, expected one of endpoint, heartbeatDatabase, heartbeatTable, heartbeatTables, managedIdentityClientId, credential at line 12, column 9: heartbeatDatabas: x",
            ),
            (
                "clusterName: minimal",
                "clusterName: minimal\n  federation: {macroExpand: {bestEffort: maybe}}",
                "spec.federation.macroExpand.bestEffort = \"maybe\": must be a boolean: true or false, without quotes",
            ),
            (
                "clusterName: minimal",
                "clusterName: minimal\n  role: Hub",
                "spec.role: unknown variant `Hub`, expected one of Partition, Federated at line 9, column 9: role: Hub",
            ),
            (
                "clusterName: minimal",
                "clusterName: a\n  clusterName: b",
                "spec.?: duplicate mapping key: clusterName at line 9, column 3: clusterName: b",
            ),
            (
                "clusterName: minimal",
                "role: Partition",
                "spec: missing field `clusterName` at line 8, column 3: role: Partition",
            ),
            (
                "kind: ADXCluster",
                "kind: Ingestor",
                "kind: 'Ingestor' must be ADXCluster at line 3, column 7: kind: Ingestor",
            ),
            (
                "azure.com/v1",
                "azure.com/v2",
                "apiVersion: 'adx-mon.azure.com/v2' must be adx-mon.azure.com/v1 at line 2, column 13: apiVersion: adx-mon.azure.com/v2",
            ),
            (
                "labels:",
                "label:",
                "metadata.label: unknown field `label`, expected one of name, namespace, labels, annotations, generation, uid, resourceVersion, creationTimestamp, deletionGracePeriodSeconds, deletionTimestamp, finalizers, generateName, managedFields, ownerReferences, selfLink at line 6, column 3: label: {app: my-adx}",
            ),
        ] {
            assert_eq!(error(from, to), message);
        }
    }

    #[test]
    fn a_line_is_shown_without_secrets() {
        for (line, shown) in [
            ("endpoints: https://me:hunter2@x.kusto.windows.net", "endpoints: https://…@x.kusto.windows.net"),
            ("endpoints: me:hunter2@x.kusto.windows.net", "endpoints: …@x.kusto.windows.net"),
            (
                "endpoints: [{endpoint: me:hunter2@a.example}, {endpoint: https://b.example}]",
                "endpoints: [{endpoint: …@a.example}, {endpoint: https://b.example}]",
            ),
            ("connection: Password=hunter2", "connection: Password=…"),
            ("connection: AppKey=hunter2 https://x.example", "connection: AppKey=… https://x.example"),
            ("connection: Password=hunt@hunter2", "connection: …"),
            ("clientSecret: hunter2", "clientSecret: …"),
            ("\"password\" : hunter hunter2", "\"password\" : …"),
            ("role: Password=hunter2", "role: Password=…"),
            ("role: me:hunter2@x.kusto.windows.net", "role: …@x.kusto.windows.net"),
        ] {
            let told = error("clusterName: minimal", &format!("clusterName: minimal\n  {line}"));
            assert!(told.ends_with(shown) && !told.contains("hunter2"), "{told}");
        }
    }

    #[test]
    fn a_value_of_another_type_than_the_crds_is_refused_as_in_kubernetes() {
        let federation = |fields: &str| format!("clusterName: minimal\n  federation: {{{fields}}}");
        let database =
            "clusterName: minimal\n  databases: [{databaseName: A, telemetryType: Logs, retentionInDays: \"30\"}]";
        for (to, message) in [
            ("clusterName: 17".to_owned(), "spec.clusterName = 17: must be a text: write it in quotes"),
            ("clusterName: true".into(), "spec.clusterName = true: must be a text: write it in quotes"),
            ("clusterName: ~".into(), "spec.clusterName = null: must be a text"),
            ("clusterName: [a]".into(), "spec.clusterName = [\"a\"]: must be a text"),
            (
                federation("heartbeatTable: 1.50"),
                "spec.federation.heartbeatTable = 1.5: must be a text: write it in quotes",
            ),
            (
                federation("macroExpand: {bestEffort: \"true\"}"),
                "spec.federation.macroExpand.bestEffort = \"true\": must be a boolean: true or false, without quotes",
            ),
            (
                federation("membership: {joinAfterBeats: \"1\"}"),
                "spec.federation.membership.joinAfterBeats = \"1\": must be a whole number, without quotes",
            ),
            (
                federation("membership: {joinAfterBeats: 1.5}"),
                "spec.federation.membership.joinAfterBeats = 1.5: must be a whole number, without quotes",
            ),
            (federation("partitioning: EU"), "spec.federation.partitioning = \"EU\": must be a map of fields"),
            (federation("allowedPartitions: [~]"), "spec.federation.allowedPartitions[0] = null: must be a text"),
            (database.into(), "spec.databases[0].retentionInDays = \"30\": must be a whole number, without quotes"),
            (
                "clusterName: a\n  endpoint: [\"me:hunter2@x.example\"]".into(),
                "spec.endpoint = [\"…@x.example\"]: must be a text",
            ),
            ("clusterName: a\n  databases: A".into(), "spec.databases = \"A\": must be a list"),
            (
                "clusterName: 1\n  suspend: \"no\"".into(),
                "spec.clusterName = 1: must be a text: write it in quotes; spec.suspend = \"no\": must be a boolean: true or false, without quotes",
            ),
        ] {
            assert_eq!(error("clusterName: minimal", &to), message);
        }
        assert_eq!(error("minimal-adx-cluster", "5"), "metadata.name = 5: must be a text: write it in quotes");
        assert_eq!(error("{app: my-adx}", "{app: 1}"), "metadata.labels.app = 1: must be a text: write it in quotes");
    }

    #[test]
    fn values_of_the_right_type_are_read_however_they_are_written() {
        let text = MINIMAL.replace(
            "clusterName: minimal",
            "clusterName: \"17\"\n  role:\n  federation: {partitioning: {geo: EU, rack: 7, spot: true}, macroExpand: {bestEffort: false}, managedIdentityClientId: ~}",
        );
        let spec = parse_documents(&text).unwrap().remove(0).spec;
        assert_eq!(spec.cluster_name, "17");
        assert_eq!(spec.federation.unwrap().partitioning["rack"], 7);
    }

    #[test]
    fn what_kubectl_prints_is_accepted() {
        let printed = MINIMAL.replace(
            "  labels:",
            "  creationTimestamp: \"2026-01-01T00:00:00Z\"\n  managedFields: [{manager: kubectl}]\n  generation: 3\n  labels:",
        ) + "status:\n  endpoint: https://x.kusto.windows.net\n  conditions:\n  - {type: Ready, status: \"True\", reason: Up, message: up, lastTransitionTime: \"2026-01-01T00:00:00Z\"}\n";
        let document = parse_documents(&printed).unwrap().remove(0);
        assert_eq!(document.metadata.generation, Some(3));
        assert_eq!(document.status.unwrap().conditions[0].type_, "Ready");
    }

    #[test]
    fn an_agents_file_holds_exactly_one_document() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_owned();
        let count = |result| match result {
            Err(DocumentError::Empty(_)) => 0,
            Err(DocumentError::NotOne { count, .. }) => count,
            other => panic!("{other:?}"),
        };
        assert_eq!(count(load_document(&path)), 0);
        file.write_all(MINIMAL.as_bytes()).unwrap();
        let document = load_document(&path).unwrap();
        assert_eq!((&*document.cluster.spec.cluster_name, document.fingerprint), ("minimal", fingerprint(MINIMAL)));
        file.write_all(format!("---{MINIMAL}").as_bytes()).unwrap();
        assert_eq!(count(load_document(&path)), 2);
        assert_eq!(load_documents(&path).unwrap().len(), 2);
        let missing = load_document(Path::new("/nowhere/x.yaml")).unwrap_err();
        assert_eq!(missing.to_string(), "failed to read the document /nowhere/x.yaml");
    }
}
