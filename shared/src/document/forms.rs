//! Forms of the document's texts in the schema of the CRD. Each is said once, as a regular expression with our words for what breaks it: of a `pattern` alone the API
//! server says "should match" and shows the expression, of a rule in CEL what we say. Pure; used by [`super::spec`].

use schemars::Schema;
use serde_json::{Value, json};

/// A form of texts. Their fields have a `maxLength`, by which the API server reckons what a rule in CEL may cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// What fits the whole text, for RE2.
    pattern: &'static str,
    /// The rule, as it follows a field's name.
    pub(super) rule: &'static str,
}

/// A cluster's name.
pub(super) const CLUSTER_NAME: Form =
    Form { pattern: "^[a-zA-Z0-9-]+$", rule: "must be 1 to 100 letters, digits and hyphens" };

/// The name of a database that the cluster must have.
pub(super) const DATABASE_NAME: Form =
    Form { pattern: "^[a-zA-Z0-9_]+$", rule: "must be 1 to 64 letters, digits and underscores" };

/// What Kusto takes as a name.
pub(super) const KUSTO_NAME: Form = Form {
    pattern: "^[a-zA-Z0-9_ .-]+$",
    rule: "must be a Kusto name: 1 to 1024 letters, digits, '_', ' ', '.' and '-'",
};

/// A duration.
pub(super) const DURATION: Form = Form {
    pattern: r"^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h|d))+$",
    rule: "must be a duration such as 10s, 10m, 1h30m or 7d",
};

/// A cron expression, by the number of its fields and by its characters: which numbers a field may have is left to the validation.
pub(super) const CRON: Form = Form {
    pattern: r"^\s*([0-9A-Za-z*?,/-]+\s+){4}[0-9A-Za-z*?,/-]+\s*$",
    rule: "must have five cron fields (minute, hour, day of month, month, day of week), such as */10 * * * *",
};

/// A pattern of host names.
pub(super) const HOST_PATTERN: Form = Form {
    pattern: "^[a-zA-Z0-9.*-]+$",
    rule: "must be a host name in which '*' stands for any characters, such as *.westeurope.kusto.windows.net",
};

/// The form that [`kql::endpoint::ClusterEndpoint`] takes; no pattern, as it needs two. The message leaves the value out, in which somebody may have written a password.
pub(super) const ENDPOINT_RULE: &str = r"self.matches(r'^(?i)https?://(localhost|127\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}|\[::1\])(:[0-9]{1,5})?/?$') || (self.matches(r'^(?i)https://[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+/?$') && !self.matches(r'^(?i)https://([^/]*\.)?([0-9]+/?$|0x[0-9a-f]*/?$|xn--)'))";
pub(super) const ENDPOINT_MESSAGE: &str = "an endpoint must be https:// and a full DNS name, such as https://mycluster.westeurope.kusto.windows.net, without user name, port, path, query or fragment; loopback addresses may have a port and plain http";

/// Whose time to live need not cover its intervals: all but hubs.
pub(super) const NO_HUB: &str = "!has(self.role) || self.role != 'Federated' || !has(self.federation)";
/// All but partitions that leave schemas out, at intervals: of cron no interval is known. A partition that always sends its schema uses no time to live, and adx-mon's
/// definition writes one into every section.
pub(super) const NO_PARTITION_WITH_RESTING_SCHEMAS: &str = "(has(self.role) && self.role == 'Federated') || !has(self.federation) || !has(self.federation.schemaInBeats) || self.federation.schemaInBeats != 'OnChange' || has(self.federation.heartbeatSchedule)";

/// In CEL: `heartbeatTTL` is at least three times `heartbeatInterval`. Whole days come before the rest, since CEL's durations know no days; texts of another form are
/// left to the validation that follows.
const COVERS: &str = r"[[has(self.federation.heartbeatTTL) ? self.federation.heartbeatTTL : '1h', has(self.federation.heartbeatInterval) ? self.federation.heartbeatInterval : '10m']].all(texts, texts.exists(t, !t.matches('^([0-9]+d)?([0-9]+(h|m|s|ms))*$')) || [texts.map(t, duration(string(t.matches('^[0-9]+d') ? int(t.find('^[0-9]+')) * 24 : 0) + 'h') + duration(t.matches('^[0-9]+d$') ? '0s' : t.replace(t.find('^[0-9]+d'), '')))].all(d, d[0] >= d[1] + d[1] + d[1]))";

/// The same as a rule for a spec, but for those that are exempt.
pub(super) fn time_to_live_covers(exempt: &str) -> String {
    format!("{exempt} || {COVERS}")
}

impl Form {
    /// Gives the schema of a field this form, by a pattern, which editors read, and as a rule in CEL.
    ///
    /// Its message has the value, which older API servers do not show beside it; without, it is for values of several lines, which the API server lets into no message.
    pub(super) fn of(self, field: &'static str) -> impl FnMut(&mut Schema) {
        move |schema| {
            let message = format!("{field} {}", self.rule);
            let with_value = format!("{} + self + {}", in_cel(&format!("{message}, not '")), in_cel("'"));
            let rule = format!("self.matches({})", in_cel(self.pattern));
            schema.insert("pattern".to_owned(), self.pattern.into());
            schema.insert(
                "x-kubernetes-validations".to_owned(),
                json!([{"rule": rule, "message": message, "messageExpression": with_value}]),
            );
        }
    }
}

/// A text as CEL writes it: JSON's way is one of its own.
fn in_cel(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use schemars::json_schema;

    use super::*;
    use crate::document::{CronError, DurationError};

    #[test]
    fn a_form_is_a_pattern_and_the_same_in_cel_with_the_value_in_its_message() {
        let mut schema = json_schema!({"type": "string"});
        DURATION.of("heartbeatTTL")(&mut schema);
        let expected = json!({
            "type": "string",
            "pattern": r"^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h|d))+$",
            "x-kubernetes-validations": [{
                "rule": r#"self.matches("^([0-9]+(\\.[0-9]+)?(ns|us|ms|s|m|h|d))+$")"#,
                "message": "heartbeatTTL must be a duration such as 10s, 10m, 1h30m or 7d",
                "messageExpression": r#""heartbeatTTL must be a duration such as 10s, 10m, 1h30m or 7d, not '" + self + "'""#,
            }],
        });
        assert_eq!(schema.to_value(), expected);
    }

    #[test]
    fn the_api_server_and_the_validation_say_the_same() {
        assert_eq!(DURATION.rule, DurationError::Form.to_string());
        assert_eq!(format!("{}; it has 4", CRON.rule), CronError::Fields(4).to_string());
    }
}
