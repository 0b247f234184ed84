//! An object of ours as the API server stores it, which may be newer than this operator or older than its rules: whatever one object holds, the others of its kind
//! are read. Pure; called by the watches.

use std::borrow::Cow;

use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        JSONSchemaProps, JSONSchemaPropsOrArray::Schema as Items, JSONSchemaPropsOrBool::Schema as Values,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{CustomResourceExt, Resource};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

/// An object, or why it could not be read.
#[derive(Debug, Clone)]
pub(crate) struct Stored<K>(pub(crate) Result<K, Unreadable>);

/// An object whose fields have other types than we know.
#[derive(Debug, Clone)]
pub(crate) struct Unreadable {
    pub(crate) metadata: ObjectMeta,
    /// The first field that is wrong, and how.
    pub(crate) why: String,
}

impl<'de, K: CustomResourceExt + de::DeserializeOwned> Deserialize<'de> for Stored<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        if let Ok(object) = K::deserialize(&value) {
            return Ok(Self(Ok(object)));
        }
        for version in K::crd().spec.versions {
            if let Some(schema) = version.schema.and_then(|schema| schema.open_api_v3_schema) {
                forget_unknown_fields(&mut value, &schema);
            }
        }
        let metadata = ObjectMeta::deserialize(&value["metadata"]).map_err(de::Error::custom)?;
        let object = serde_path_to_error::deserialize(&value);
        Ok(Self(object.map_err(|error| Unreadable { metadata, why: error.to_string() })))
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

impl<K: Resource> Resource for Stored<K> {
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
        match &self.0 {
            Ok(object) => object.meta(),
            Err(unreadable) => &unreadable.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(object) => object.meta_mut(),
            Err(unreadable) => &mut unreadable.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt as _;
    use serde_json::json;
    use shared::document::ADXCluster;

    use super::*;

    fn stored(spec: &Value) -> Stored<ADXCluster> {
        let object = json!({"apiVersion": "adx-mon.azure.com/v1", "kind": "ADXCluster", "metadata": {"name": "x"}, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn fields_of_a_newer_definition_are_left_out_wherever_they_are() {
        let newer = stored(&json!({
            "clusterName": "x",
            "fresh": 1,
            "databases": [{"databaseName": "Logs", "telemetryType": "Logs", "fresh": {"a": 1}}],
            "federation": {"partitioning": {"kept": "as it is open"}, "fresh": []},
        }));
        let plain = stored(&json!({
            "clusterName": "x",
            "databases": [{"databaseName": "Logs", "telemetryType": "Logs"}],
            "federation": {"partitioning": {"kept": "as it is open"}},
        }));
        assert_eq!(newer.0.unwrap().spec, plain.0.unwrap().spec);
    }

    #[test]
    fn an_object_of_other_types_is_told_with_its_name_path_and_rule() {
        let unreadable = stored(&json!({"clusterName": 7}));
        assert_eq!(unreadable.name_any(), "x");
        let why = unreadable.0.unwrap_err().why;
        assert_eq!(why, "spec.clusterName: invalid type: integer `7`, expected a string");
    }
}
