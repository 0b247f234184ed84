//! Which resource a path names, whatever its case, and which right a request needs. No I/O; called by the exchange.

/// What a path below a subscription names. Names are as the request wrote them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Subscription,
    Provider {
        namespace: String,
    },
    Register {
        namespace: String,
    },
    Group {
        group: String,
    },
    Skus {
        location: String,
    },
    CheckName {
        location: String,
    },
    Operation {
        location: String,
        id: String,
    },
    Clusters {
        group: Option<String>,
    },
    Cluster(ClusterPath),
    Start(ClusterPath),
    Stop(ClusterPath),
    Databases(ClusterPath),
    Database(ClusterPath, String),
    /// Of the cluster or of one of its databases.
    Assignments(ClusterPath, Option<String>),
    Assignment(ClusterPath, Option<String>, String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClusterPath {
    pub(super) group: String,
    pub(super) name: String,
}

impl Route {
    /// The subscription and what in it; `None`: the double knows no such path.
    pub(super) fn parse(path: &str) -> Option<(String, Self)> {
        let segments: Vec<String> = path.strip_prefix('/')?.split('/').map(decoded).collect();
        let words: Vec<String> = segments.iter().map(|segment| segment.to_lowercase()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let at = |index: usize| segments[index].clone();
        let ["subscriptions", _, rest @ ..] = words.as_slice() else { return None };
        let cluster = || ClusterPath { group: at(3), name: at(7) };
        let route = match rest {
            [] => Self::Subscription,
            ["providers", _] => Self::Provider { namespace: at(3) },
            ["providers", _, "register"] => Self::Register { namespace: at(3) },
            ["providers", "microsoft.kusto", "clusters"] => Self::Clusters { group: None },
            ["providers", "microsoft.kusto", "locations", _, "skus"] => Self::Skus { location: at(5) },
            ["providers", "microsoft.kusto", "locations", _, "checknameavailability"] => {
                Self::CheckName { location: at(5) }
            }
            ["providers", "microsoft.kusto", "locations", _, "operationresults", _] => {
                Self::Operation { location: at(5), id: at(7) }
            }
            ["resourcegroups", _] => Self::Group { group: at(3) },
            ["resourcegroups", _, "providers", "microsoft.kusto", "clusters", rest @ ..] => match rest {
                [] => Self::Clusters { group: Some(at(3)) },
                [_] => Self::Cluster(cluster()),
                [_, "start"] => Self::Start(cluster()),
                [_, "stop"] => Self::Stop(cluster()),
                [_, "databases"] => Self::Databases(cluster()),
                [_, "databases", _] => Self::Database(cluster(), at(9)),
                [_, "principalassignments"] => Self::Assignments(cluster(), None),
                [_, "principalassignments", _] => Self::Assignment(cluster(), None, at(9)),
                [_, "databases", _, "principalassignments"] => Self::Assignments(cluster(), Some(at(9))),
                [_, "databases", _, "principalassignments", _] => Self::Assignment(cluster(), Some(at(9)), at(11)),
                _ => return None,
            },
            _ => return None,
        };
        Some((at(1), route))
    }

    pub(super) const fn allows(&self, method: &str) -> bool {
        let methods: &[&str] = match self {
            Self::Subscription
            | Self::Provider { .. }
            | Self::Skus { .. }
            | Self::Operation { .. }
            | Self::Clusters { .. }
            | Self::Databases(_)
            | Self::Assignments(..) => &["GET"],
            Self::Register { .. } | Self::CheckName { .. } | Self::Start(_) | Self::Stop(_) => &["POST"],
            Self::Group { .. } => &["HEAD", "GET", "PUT"],
            Self::Cluster(_) | Self::Database(..) => &["GET", "PUT", "PATCH", "DELETE"],
            Self::Assignment(..) => &["GET", "PUT", "DELETE"],
        };
        let mut index = 0;
        while index < methods.len() {
            if methods[index].as_bytes().eq_ignore_ascii_case(method.as_bytes()) {
                return true;
            }
            index += 1;
        }
        false
    }

    /// The cluster that it is about.
    pub(super) const fn cluster(&self) -> Option<&ClusterPath> {
        match self {
            Self::Cluster(cluster)
            | Self::Start(cluster)
            | Self::Stop(cluster)
            | Self::Databases(cluster)
            | Self::Database(cluster, _)
            | Self::Assignments(cluster, _)
            | Self::Assignment(cluster, ..) => Some(cluster),
            _ => None,
        }
    }

    /// Whether Microsoft.Resources answers it, or Microsoft.Kusto.
    pub(super) const fn api_version(&self) -> &'static str {
        match self {
            Self::Subscription | Self::Provider { .. } | Self::Register { .. } | Self::Group { .. } => "2025-04-01",
            _ => "2025-02-14",
        }
    }

    /// The action that Azure wants a right for.
    pub(super) fn action(&self, method: &str) -> String {
        let verb = match method {
            "GET" | "HEAD" => "read",
            "DELETE" => "delete",
            _ => "write",
        };
        match self {
            Self::Subscription => "Microsoft.Resources/subscriptions/read".to_owned(),
            Self::Provider { .. } => "Microsoft.Resources/subscriptions/providers/read".to_owned(),
            Self::Register { namespace } => format!("{namespace}/register/action"),
            Self::Group { .. } => format!("Microsoft.Resources/subscriptions/resourceGroups/{verb}"),
            Self::Skus { .. } => "Microsoft.Kusto/locations/skus/read".to_owned(),
            Self::CheckName { .. } => "Microsoft.Kusto/locations/checkNameAvailability/action".to_owned(),
            Self::Operation { .. } => "Microsoft.Kusto/locations/operationresults/read".to_owned(),
            Self::Clusters { .. } | Self::Cluster(_) => format!("Microsoft.Kusto/clusters/{verb}"),
            Self::Start(_) => "Microsoft.Kusto/clusters/start/action".to_owned(),
            Self::Stop(_) => "Microsoft.Kusto/clusters/stop/action".to_owned(),
            Self::Databases(_) | Self::Database(..) => format!("Microsoft.Kusto/clusters/databases/{verb}"),
            Self::Assignments(_, None) | Self::Assignment(_, None, _) => {
                format!("Microsoft.Kusto/clusters/principalAssignments/{verb}")
            }
            Self::Assignments(..) | Self::Assignment(..) => {
                format!("Microsoft.Kusto/clusters/databases/principalAssignments/{verb}")
            }
        }
    }

    /// Whether a lock on the scope is in its way.
    pub(super) fn is_write(&self, method: &str) -> bool {
        let reads = matches!(method, "GET" | "HEAD");
        !reads && !matches!(self, Self::CheckName { .. } | Self::Register { .. })
    }
}

/// `East%20US%202` is `East US 2`.
pub(super) fn decoded(segment: &str) -> String {
    let bytes = segment.as_bytes();
    let mut text = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let hexadecimal = segment.get(index + 1..index + 3).filter(|_| bytes[index] == b'%');
        if let Some(byte) = hexadecimal.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            text.push(byte);
            index += 3;
        } else {
            text.push(bytes[index]);
            index += 1;
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}
