//! Checks of requests and answers: against the specification that was derived from Microsoft's SDK, and for bodies of PUT against Microsoft's own schema of ARM
//! templates. No I/O: the files of `tests/arm` are compiled in. Called by the exchange for every request; the validators are made once for a program.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use jsonschema::{Registry, Validator};
use serde_json::{Value, json};

const SPECIFICATION: &str = include_str!("../../arm/arm-subset.strict.openapi.json");
const TEMPLATES: &str = include_str!("../../arm/arm-template-schema-Microsoft.Kusto-2025-02-14.json");
const DEFINITIONS: &str = include_str!("../../arm/arm-template-schema-common-definitions.json");

const REQUESTS: &str = "urn:arm:requests";
const RESPONSES: &str = "urn:arm:responses";
const KUSTO_TEMPLATES: &str = "https://schema.management.azure.com/schemas/2025-02-14/Microsoft.Kusto.json";
const COMMON_TEMPLATES: &str = "https://schema.management.azure.com/schemas/common/definitions.json";

static REGISTRY: LazyLock<Registry<'static>> = LazyLock::new(|| {
    let document: Value = serde_json::from_str(SPECIFICATION).expect("the specification is JSON");
    let responses = json!({"components": document["components"]});
    let mut requests = responses.clone();
    for_requests(&mut requests);
    let templates: Value = serde_json::from_str(TEMPLATES).expect("the schema is JSON");
    let definitions: Value = serde_json::from_str(DEFINITIONS).expect("the schema is JSON");
    Registry::new()
        .add(REQUESTS, requests)
        .and_then(|registry| registry.add(RESPONSES, responses))
        .and_then(|registry| registry.add(KUSTO_TEMPLATES, templates))
        .and_then(|registry| registry.add(COMMON_TEMPLATES, definitions))
        .and_then(jsonschema::RegistryBuilder::prepare)
        .expect("the documents have addresses and hold schemas")
});

static OPERATIONS: LazyLock<Vec<Operation>> = LazyLock::new(|| {
    let document: Value = serde_json::from_str(SPECIFICATION).expect("the specification is JSON");
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(path, methods)| operations_of(path, methods)).collect()
});

static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// An operation of the specification.
struct Operation {
    method: String,
    /// In lower case; `None` stands for any text.
    segments: Vec<Option<String>>,
    /// Only with `operationResultResponseType=Location`.
    is_location: bool,
    /// The schema and whether a body is required.
    request: Option<(Value, bool)>,
    /// By status or `default`; without a schema there is no body.
    responses: BTreeMap<String, Option<Value>>,
}

fn operations_of(path: &str, methods: &Value) -> Vec<Operation> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let segment = |text: &str| (!text.starts_with('{')).then(|| text.to_lowercase());
    let segments: Vec<Option<String>> = path.split('/').map(segment).collect();
    let schema_of = |holder: &Value| holder["content"]["application/json"].get("schema").cloned();
    let operation = |(method, operation): (&String, &Value)| {
        let body = &operation["requestBody"];
        let responses = operation["responses"].as_object().into_iter().flatten();
        Operation {
            method: method.to_uppercase(),
            segments: segments.clone(),
            is_location: !query.is_empty(),
            request: schema_of(body).map(|schema| (schema, body["required"] == true)),
            responses: responses.map(|(status, response)| (status.clone(), schema_of(response))).collect(),
        }
    };
    methods.as_object().into_iter().flatten().map(operation).collect()
}

/// What a client must not send: properties that are read-only, as Microsoft's own validator has it. What it may send though the description leaves it out:
/// null for a user-assigned identity, which takes it away.
fn for_requests(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            for (name, value) in object {
                if value["readOnly"] == true {
                    *value = false.into();
                } else if name == "userAssignedIdentities" {
                    let entry = value["additionalProperties"].take();
                    value["additionalProperties"] = json!({"anyOf": [{"type": "null"}, entry]});
                } else {
                    for_requests(value);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(for_requests),
        _ => {}
    }
}

fn find(method: &str, path: &str, query: &BTreeMap<String, String>) -> Option<&'static Operation> {
    let path = path.to_lowercase();
    let words: Vec<&str> = path.split('/').collect();
    let is_location = query.contains_key("operationResultResponseType");
    let fits = |operation: &&Operation| {
        operation.method == method
            && operation.is_location == is_location
            && operation.segments.len() == words.len()
            && operation
                .segments
                .iter()
                .zip(&words)
                .all(|(segment, word)| segment.as_ref().is_none_or(|segment| segment == word))
    };
    OPERATIONS.iter().filter(fits).max_by_key(|operation| operation.segments.iter().flatten().count())
}

/// Whether Azure has such an operation.
pub(super) fn knows(method: &str, path: &str, query: &BTreeMap<String, String>) -> bool {
    find(method, path, query).is_some()
}

/// What is wrong with a request. A body of null is none.
pub(super) fn check_request(method: &str, path: &str, query: &BTreeMap<String, String>, body: &Value) -> Vec<String> {
    let Some(operation) = find(method, path, query) else { return Vec::new() };
    let mut wrong = match &operation.request {
        None if body.is_null() => Vec::new(),
        None => vec!["a body where none is expected".to_owned()],
        Some((_, true)) if body.is_null() => vec!["no body, though one is required".to_owned()],
        Some((_, false)) if body.is_null() => Vec::new(),
        Some((schema, _)) => check(REQUESTS, schema, body),
    };
    if method == "PUT" && !body.is_null() {
        wrong.extend(check_template(path, body));
    }
    wrong
}

/// What is wrong with an answer.
pub(super) fn check_response(
    method: &str,
    path: &str,
    query: &BTreeMap<String, String>,
    status: u16,
    body: Option<&Value>,
) -> Vec<String> {
    let Some(operation) = find(method, path, query) else { return Vec::new() };
    let listed = operation.responses.get(&status.to_string());
    let listed = listed.or_else(|| operation.responses.get("default").filter(|_| status >= 400));
    match (listed, body) {
        (None, _) => vec![format!("status {status} is not listed")],
        // Answers to HEAD have no body at all.
        (_, None) if method == "HEAD" => Vec::new(),
        (Some(None), Some(_)) => vec![format!("a body with status {status}")],
        (Some(Some(_)), None) => vec![format!("no body with status {status}")],
        (Some(None), None) => Vec::new(),
        (Some(Some(schema)), Some(body)) => check(RESPONSES, schema, body),
    }
}

/// As a resource of a template.
fn check_template(path: &str, body: &Value) -> Vec<String> {
    let lower = path.to_lowercase();
    let Some((_, resource)) = lower.split_once("/providers/microsoft.kusto/") else { return Vec::new() };
    let resource: Vec<&str> = resource.split('/').collect();
    let (definition, kind) = match resource.as_slice() {
        ["clusters", _] => ("clusters", "Microsoft.Kusto/clusters"),
        ["clusters", _, "databases", _] => ("clusters_databases", "Microsoft.Kusto/clusters/databases"),
        ["clusters", _, "principalassignments", _] => {
            ("clusters_principalAssignments", "Microsoft.Kusto/clusters/principalAssignments")
        }
        ["clusters", _, "databases", _, "principalassignments", _] => {
            ("clusters_databases_principalAssignments", "Microsoft.Kusto/clusters/databases/principalAssignments")
        }
        _ => return Vec::new(),
    };
    let mut template = body.clone();
    template["type"] = kind.into();
    template["apiVersion"] = "2025-02-14".into();
    template["name"] = resource.iter().skip(1).step_by(2).copied().collect::<Vec<_>>().join("/").into();
    let schema = json!({"$ref": format!("{KUSTO_TEMPLATES}#/resourceDefinitions/{definition}")});
    let wrong = check("template", &schema, &template);
    wrong.into_iter().map(|wrong| format!("as a template: {wrong}")).collect()
}

fn check(side: &str, schema: &Value, instance: &Value) -> Vec<String> {
    let key = format!("{side} {schema}");
    let known = VALIDATORS.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
    let validator = known.unwrap_or_else(|| {
        let validator = Arc::new(validator(side, schema));
        VALIDATORS.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&validator));
        validator
    });
    let errors = validator.iter_errors(instance);
    errors.map(|error| format!("{}: {error}", error.instance_path()).chars().take(600).collect()).collect()
}

fn validator(side: &str, schema: &Value) -> Validator {
    let options = jsonschema::options().offline().with_registry(&REGISTRY).should_validate_formats(true);
    let built = if side == "template" {
        options.with_draft(jsonschema::Draft::Draft4).build(schema)
    } else {
        // The parts of the document are apart from what refers to them.
        let text = schema.to_string().replace("\"#/components", &format!("\"{side}#/components"));
        let schema = serde_json::from_str(&text).expect("it was JSON before");
        options.build(&schema)
    };
    built.expect("the schema is right")
}
