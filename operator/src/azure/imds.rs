//! Where this machine is: the instance metadata service. I/O: HTTP to a link-local address, past any proxy.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use azure_core::http::Url;
use serde::Deserialize;

use super::settings::Place;

/// On a machine outside Azure nobody answers.
const PATIENCE: Duration = Duration::from_secs(2);
/// The service, with what it said last: a machine does not move.
#[derive(Debug)]
pub struct Imds {
    url: Url,
    http: reqwest::Client,
    /// After a failure it is left alone for so long: pods that are cut off from it stay so.
    rest: Duration,
    known: Mutex<Known>,
}

#[derive(Debug, Clone, Default)]
enum Known {
    #[default]
    Nothing,
    Place(Place),
    Failed {
        at: Instant,
        why: String,
    },
}

#[derive(Deserialize)]
struct Instance {
    compute: Compute,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Compute {
    #[serde(default)]
    location: String,
    #[serde(default)]
    resource_group_name: String,
    #[serde(default)]
    subscription_id: String,
}

impl Imds {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// If HTTP cannot be set up.
    pub fn new(url: Url, rest: Duration) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        Ok(Self { url, http, rest, known: Mutex::default() })
    }

    /// Where this machine is.
    ///
    /// # Errors
    /// Why nobody knows.
    pub async fn place(&self) -> Result<Place, String> {
        match self.known.lock().expect("no holder of this lock panics").clone() {
            Known::Place(place) => return Ok(place),
            Known::Failed { at, why } if at.elapsed() < self.rest => return Err(why),
            Known::Failed { .. } | Known::Nothing => {}
        }
        let asked = self.ask().await;
        *self.known.lock().expect("no holder of this lock panics") = match &asked {
            Ok(place) => Known::Place(place.clone()),
            Err(why) => Known::Failed { at: Instant::now(), why: why.clone() },
        };
        asked
    }

    async fn ask(&self) -> Result<Place, String> {
        let mut url = self.url.clone();
        url.set_path("/metadata/instance");
        url.set_query(Some("api-version=2021-02-01"));
        let answer = self.http.get(url).header("Metadata", "true").send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status).map_err(|error| {
            let why = match error.status() {
                Some(status) => format!("answered {status}"),
                None => "did not answer".to_owned(),
            };
            format!("the instance metadata service {why}")
        })?;
        let unreadable = |_| "the instance metadata service's answer cannot be read".to_owned();
        let Compute { location, resource_group_name, subscription_id } =
            answer.json::<Instance>().await.map_err(unreadable)?.compute;
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        Ok(Place {
            subscription_id: given(subscription_id),
            resource_group: given(resource_group_name),
            location: given(location),
        })
    }
}
