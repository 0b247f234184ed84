//! An object of ours as the API server stores it, which may be newer than this operator or older than its rules: whatever one object holds, the others of its kind
//! are read. Pure; called by the watches.

use std::{borrow::Cow, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        JSONSchemaProps, JSONSchemaPropsOrArray::Schema as Items, JSONSchemaPropsOrBool::Schema as Values,
    },
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
};
use kql::secrets::redacted_quotes;
use kube::Resource;
use serde::{Deserialize, Deserializer, de};
use serde_json::{Value, json};
use serde_path_to_error::Segment;
use shared::document::wrong_types;

use super::{
    conditions::{Draft, Phase, SUSPENDED, last_known, merged, ours, with_summary},
    managed::Managed,
    reason::Reason,
};

/// An object, or why it could not be read. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) enum Stored<K> {
    Readable(Arc<K>),
    Unreadable(Arc<Unreadable<K>>),
}

/// An object whose fields have other types than we know.
#[derive(Debug, Clone)]
pub(crate) struct Unreadable<K> {
    pub(crate) metadata: ObjectMeta,
    /// The fields that are wrong, each with its value and the rule.
    pub(crate) why: String,
    /// Whether a person does not want it to be looked after: that can be read, whatever else cannot.
    pub(crate) is_suspended: bool,
    /// What its status says, as far as that can be read.
    pub(crate) conditions: Vec<Condition>,
    pub(crate) observed_generation: Option<i64>,
    /// The object without what is wrong, and with the conditions that it is to have.
    pub(crate) rest: Option<Arc<K>>,
}

impl<K> Stored<K> {
    /// What others may go by: of an object that cannot be read, what of it can.
    pub(crate) fn known(&self) -> Option<Arc<K>> {
        match self {
            Self::Readable(object) => Some(Arc::clone(object)),
            Self::Unreadable(unreadable) => unreadable.rest.clone(),
        }
    }
}

impl<'de, K: Managed> Deserialize<'de> for Stored<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        if let Ok(object) = K::deserialize(&value) {
            return Ok(Self::Readable(Arc::new(object)));
        }
        let mut versions = K::crd().spec.versions.into_iter();
        let schema = versions.find_map(|version| version.schema?.open_api_v3_schema).unwrap_or_default();
        forget_unknown_fields(&mut value, &schema);
        let metadata = ObjectMeta::deserialize(&value["metadata"]).map_err(de::Error::custom)?;
        let object: Result<K, _> = serde_path_to_error::deserialize(&value);
        Ok(match object {
            Ok(object) => Self::Readable(Arc::new(object)),
            Err(error) => Self::Unreadable(Arc::new(Unreadable::new(value, metadata, &schema, &error.to_string()))),
        })
    }
}

impl<K: Managed> Unreadable<K> {
    /// `error`: what came first.
    fn new(object: Value, metadata: ObjectMeta, schema: &JSONSchemaProps, error: &str) -> Self {
        let schema = serde_json::to_value(schema).expect("a schema is JSON");
        let wrong: Vec<String> = wrong_types(&schema, &object).iter().map(ToString::to_string).collect();
        let why = match &wrong[..] {
            // Of the right type, as a word that is none of those allowed; or nothing, where there must be something.
            [] => redacted_quotes(error),
            wrong => wrong.join("; "),
        };
        let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        let conditions = conditions.filter_map(|condition| Condition::deserialize(condition).ok()).collect();
        let observed_generation = object["status"]["observedGeneration"].as_i64();
        let is_suspended = object["spec"]["suspend"] == true;
        let mut unreadable = Self { metadata, why, is_suspended, conditions, observed_generation, rest: None };
        // Also of one that is suspended, as nobody is to go by what is left out.
        unreadable.rest = rest(object, &schema, &unreadable.invalid(Timestamp::UNIX_EPOCH)).map(Arc::new);
        unreadable
    }

    /// What only a person can mend.
    pub(crate) fn broken(&self) -> Draft {
        Draft::no(K::RULES_PHASE, Reason::Invalid, self.why.as_str())
    }

    /// The conditions that it is to have: those of an object that breaks another rule, or of another that is suspended.
    pub(crate) fn told(&self, now: Timestamp) -> Vec<Condition> {
        if self.is_suspended { self.suspended(now) } else { self.invalid(now) }
    }

    fn invalid(&self, now: Timestamp) -> Vec<Condition> {
        merged(&self.conditions, with_summary(vec![self.broken()], true), self.metadata.generation, now)
    }

    fn suspended(&self, now: Timestamp) -> Vec<Condition> {
        let ready = Draft::unknown(Phase::Ready, Reason::Suspended, SUSPENDED);
        let ready = merged(&self.conditions, vec![ready], self.metadata.generation, now);
        last_known(&self.conditions).cloned().chain(ready).collect()
    }

    /// Whether its status says so already.
    pub(crate) fn says(&self, told: &[Condition]) -> bool {
        let said: Vec<&Condition> = ours(&self.conditions).collect();
        self.observed_generation == self.metadata.generation
            && said.len() == told.len()
            && told.iter().all(|condition| said.contains(&condition))
    }
}

/// Fields of a spec without which nobody knows for whom the object is, and what.
const DECISIVE: [&str; 2] = ["role", "criteriaExpression"];

/// An object without those fields of its spec and status in which something cannot be read; where one must be there, it has the least value of its type.
fn rest<K: Managed>(mut object: Value, schema: &Value, conditions: &[Condition]) -> Option<K> {
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    object["status"]["conditions"] = json!(conditions);
    loop {
        let read: Result<K, _> = serde_path_to_error::deserialize(&object);
        let error = match read {
            Ok(rest) => return Some(rest),
            Err(error) => error,
        };
        let keys = error.path().iter().map_while(|segment| match segment {
            Segment::Map { key } => Some(key.as_str()),
            _ => None,
        });
        let keys: Vec<&str> = keys.take(2).collect();
        let [section, field] = keys[..] else { return None };
        if section == "spec" && DECISIVE.contains(&field) {
            return None;
        }
        let schema = &schema["properties"][section];
        let is_required = schema["required"].as_array().is_some_and(|required| required.contains(&json!(field)));
        let least = is_required.then(|| match schema["properties"][field]["type"].as_str() {
            Some("string") => json!(""),
            Some("array") => json!([]),
            Some("object") => json!({}),
            Some("boolean") => json!(false),
            _ => json!(0),
        });
        let fields = object.get_mut(section)?.as_object_mut()?;
        let before = fields.remove(field);
        if before.is_none() || before == least {
            return None;
        }
        fields.extend(least.map(|least| (field.to_owned(), least)));
    }
}

/// Leaves out what a schema does not know, as the API server does with its own. Metadata is no part of such a schema and stays.
fn forget_unknown_fields(value: &mut Value, schema: &JSONSchemaProps) {
    match value {
        Value::Object(fields) => {
            if let Some(properties) = &schema.properties {
                if schema.x_kubernetes_preserve_unknown_fields != Some(true) {
                    let is_of_every_object = |name: &str| matches!(name, "apiVersion" | "kind" | "metadata");
                    fields.retain(|name, _| properties.contains_key(name) || is_of_every_object(name));
                }
                for (name, field) in fields {
                    if let Some(schema) = properties.get(name) {
                        forget_unknown_fields(field, schema);
                    }
                }
            } else if let Some(Values(schema)) = &schema.additional_properties {
                fields.values_mut().for_each(|field| forget_unknown_fields(field, schema));
            }
        }
        Value::Array(items) => {
            if let Some(Items(schema)) = &schema.items {
                items.iter_mut().for_each(|item| forget_unknown_fields(item, schema));
            }
        }
        _ => {}
    }
}

impl<K: Resource + Clone> Resource for Stored<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Readable(object) => object.meta(),
            Self::Unreadable(unreadable) => &unreadable.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Readable(object) => Arc::make_mut(object).meta_mut(),
            Self::Unreadable(unreadable) => &mut Arc::make_mut(unreadable).metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt as _;
    use shared::document::ADXCluster;

    use super::*;
    use crate::api::Ingestor;

    fn stored<K: Managed>(spec: &Value, status: &Value) -> Stored<K> {
        let metadata = json!({"name": "x", "generation": 3});
        let object = json!({"apiVersion": "adx-mon.azure.com/v1", "kind": K::KIND.as_str(), "metadata": metadata, "spec": spec, "status": status});
        serde_json::from_value(object).unwrap()
    }

    fn read<K: Managed>(spec: &Value) -> Arc<K> {
        match stored(spec, &Value::Null) {
            Stored::Readable(object) => object,
            Stored::Unreadable(unreadable) => panic!("{unreadable:?}"),
        }
    }

    fn unreadable<K: Managed>(spec: &Value, status: &Value) -> Arc<Unreadable<K>> {
        match stored(spec, status) {
            Stored::Readable(object) => panic!("{object:?}"),
            Stored::Unreadable(unreadable) => unreadable,
        }
    }

    #[test]
    fn fields_of_a_newer_definition_are_left_out_wherever_they_are() {
        let newer = read::<ADXCluster>(&json!({
            "clusterName": "x",
            "fresh": 1,
            "databases": [{"databaseName": "Logs", "telemetryType": "Logs", "fresh": {"a": 1}}],
            "federation": {"partitioning": {"kept": "as it is open"}, "fresh": []},
        }));
        let plain = read::<ADXCluster>(&json!({
            "clusterName": "x",
            "databases": [{"databaseName": "Logs", "telemetryType": "Logs"}],
            "federation": {"partitioning": {"kept": "as it is open"}},
        }));
        assert_eq!(newer.spec, plain.spec);
    }

    #[test]
    fn an_object_of_other_types_is_told_with_every_path_value_and_rule() {
        let why = |spec: Value| unreadable::<ADXCluster>(&spec, &Value::Null).why.clone();
        assert_eq!(
            why(
                json!({"clusterName": 7, "endpoint": ["https://me:secret@x.example"], "suspend": "yes", "provision": null})
            ),
            "spec.clusterName = 7: must be a text: write it in quotes; spec.endpoint = [\"https://…@x.example\"]: must be a text; \
             spec.suspend = \"yes\": must be a boolean: true or false, without quotes"
        );
        // Of the right type, and wrong all the same; and what is not there.
        let role = why(json!({"clusterName": "x", "role": "Hub"}));
        assert_eq!(role, "spec.role: unknown variant `Hub`, expected `Partition` or `Federated`");
        assert_eq!(why(json!({})), "spec: missing field `clusterName`");
        for (role, shown) in
            [("Password=hunter2", "Password=…"), ("https://me:hunter2@x", "https://…@x"), ("me:hunter2@x", "…@x")]
        {
            assert_eq!(
                why(json!({"clusterName": "x", "role": role})),
                format!("spec.role: unknown variant `{shown}`, expected `Partition` or `Federated`")
            );
        }
        let status = unreadable::<ADXCluster>(&json!({"clusterName": "x"}), &json!({"endpoint": 7}));
        assert_eq!(status.why, "status.endpoint = 7: must be a text: write it in quotes");
        let ingestor = unreadable::<Ingestor>(&json!({"adxClusterSelector": {}, "replicas": "three"}), &Value::Null);
        assert_eq!(ingestor.why, "spec.replicas = \"three\": must be a whole number, without quotes");
        assert_eq!(Stored::Unreadable(ingestor).name_any(), "x");
    }

    #[test]
    fn null_is_never_told_as_wrong_whatever_its_field_is_called() {
        let selector = json!({"team": null, "team-sig": null, "password": null});
        let spec = json!({"adxClusterSelector": {}, "replicas": "three", "image": null, "podPolicy": {"nodeSelector": selector}});
        let ingestor = unreadable::<Ingestor>(&spec, &Value::Null);
        assert_eq!(ingestor.why, "spec.replicas = \"three\": must be a whole number, without quotes");
    }

    #[test]
    fn it_is_told_once_and_keeps_what_others_have_said_of_it() {
        let condition = |name: &str| json!({"type": name, "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let spec = json!({"adxClusterSelector": {}, "replicas": "three"});
        let said = json!({"conditions": [condition("Theirs"), condition("Ready")], "observedGeneration": 2});
        let first = unreadable::<Ingestor>(&spec, &said);
        let told = first.told(Timestamp::from_second(10).unwrap());
        let shown: Vec<_> = told.iter().map(|told| (told.type_.as_str(), told.status.as_str())).collect();
        assert_eq!(shown, [("WorkloadReady", "False"), ("Ready", "False"), ("Stalled", "True")]);
        assert!(told.iter().all(|told| told.reason == "Invalid" && told.observed_generation == Some(3)), "{told:?}");
        assert!(!first.says(&told));
        // In another order, as the API server may have them.
        let conditions: Vec<Condition> = first.conditions[..1].iter().chain(told.iter().rev()).cloned().collect();
        let same = unreadable::<Ingestor>(&spec, &json!({"conditions": conditions, "observedGeneration": 3}));
        assert!(same.says(&same.told(Timestamp::from_second(20).unwrap())));
        let older = unreadable::<Ingestor>(&spec, &json!({"conditions": conditions, "observedGeneration": 2}));
        assert!(!older.says(&older.told(Timestamp::from_second(20).unwrap())));
        let other = json!({"adxClusterSelector": {}, "replicas": "four"});
        let other = unreadable::<Ingestor>(&other, &json!({"conditions": conditions, "observedGeneration": 3}));
        assert!(!other.says(&other.told(Timestamp::from_second(20).unwrap())));
    }

    #[test]
    fn that_it_is_suspended_is_read_whatever_else_cannot_be_and_others_do_not_go_by_the_rest_of_it() {
        let condition = |name: &str| json!({"type": name, "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let said = json!({"conditions": [condition("ClusterReady"), condition("Ready"), condition("Stalled")]});
        // With and without anything decisive among it.
        for wrong in ["databases", "role"] {
            let stopped = unreadable::<ADXCluster>(&json!({"clusterName": "x", "suspend": true, wrong: "Logs"}), &said);
            let told = stopped.told(Timestamp::from_second(10).unwrap());
            let shown: Vec<_> =
                told.iter().map(|told| (told.type_.as_str(), told.status.as_str(), told.reason.as_str())).collect();
            assert_eq!(shown, [("ClusterReady", "True", "R"), ("Ready", "Unknown", "Suspended")], "{wrong}");
            assert_eq!(told[1].observed_generation, Some(3));
            let known = stopped.rest.as_ref().map(|rest| rest.conditions()[0].reason.clone());
            assert_eq!(known, (wrong == "databases").then(|| "Invalid".to_owned()));
        }
        let unclear = unreadable::<ADXCluster>(&json!({"clusterName": "x", "suspend": "yes"}), &said);
        assert_eq!(unclear.told(Timestamp::UNIX_EPOCH)[1].reason, "Invalid");
    }

    #[test]
    fn others_go_by_what_can_be_read_of_it() {
        let databases = json!([{"databaseName": "Logs", "telemetryType": "Logs"}]);
        let endpoint = "https://x.kusto.windows.net";
        let status = json!({"endpoint": endpoint, "observedGeneration": "three"});
        let spec = json!({"clusterName": 7, "databases": databases, "federation": {"canary": "yes", "image": "x"}});
        let rest = unreadable::<ADXCluster>(&spec, &status).rest.clone().expect("nothing decisive is wrong");
        assert_eq!((rest.spec.cluster_name.as_str(), rest.spec.databases.len()), ("", 1));
        assert_eq!(rest.spec.federation, None, "a part of it would be another");
        assert_eq!(rest.status_endpoint(), Some(endpoint));
        let ready = rest.conditions().iter().find(|condition| condition.type_ == Phase::ClusterReady.as_str());
        assert!(ready.is_some_and(|ready| ready.status == "False" && ready.reason == "Invalid"), "{rest:?}");
        // A status that is none.
        let rest = unreadable::<ADXCluster>(&json!({"clusterName": "x"}), &json!("none")).rest.clone();
        assert!(rest.is_some_and(|rest| rest.conditions().len() == 3));
        // A hub would be taken for a partition, and another operator's for ours.
        for wrong in [json!({"role": 7}), json!({"criteriaExpression": true})] {
            let mut spec = json!({"clusterName": "x"});
            spec.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
            assert!(unreadable::<ADXCluster>(&spec, &Value::Null).rest.is_none(), "{spec}");
        }
        assert!(unreadable::<ADXCluster>(&json!("none"), &Value::Null).rest.is_none());
    }
}
