//! Stories with real processes: local Kusto servers, the agents, the supervisor. Each test names the rule that it proves.

mod admin;
mod beat_faults;
mod beats;
mod crowd;
mod database_faults;
mod demo;
mod every_fault;
mod faults;
mod faulty_hub;
mod hostile;
mod identity;
mod lifecycle;
mod logs;
mod membership;
mod numbers;
mod ownership;
mod plans;
mod readme;
mod refusals;
mod running_faults;
mod schemas;
mod setup_faults;
mod supervision;
mod support;
mod trust;
mod watching;
