//! `alarm`, `defrag`, `move-leader` and `downgrade`.

use super::args;
use super::connection::{Client, Effect, maintenance};
use super::endpoint::{alarm_name, named, say};
use super::failure::{Failure, code};
use super::print::json::Object;
use super::print::text::Text;
use super::print::{Printer, Report};
use crate::output;
use clap::{Args, Subcommand};
use prost::Message;
use quorate_etcd_api::etcdserverpb::alarm_request::AlarmAction;
use quorate_etcd_api::etcdserverpb::downgrade_request::DowngradeAction;
use quorate_etcd_api::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, DefragmentRequest, DowngradeRequest, MoveLeaderRequest,
    StatusRequest,
};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What can be done with alarms.
#[derive(Subcommand)]
pub(crate) enum Alarms {
    /// Show all alarms
    #[command(after_help = "Example:\n  quorate ctl alarm list")]
    List {
        /// There are none
        #[arg(hide = true)]
        words: Vec<OsString>,
    },
    /// End all alarms
    #[command(after_help = "Example:\n  quorate ctl alarm disarm")]
    Disarm {
        /// There are none
        #[arg(hide = true)]
        words: Vec<OsString>,
    },
}

impl Alarms {
    pub(super) async fn run(&self, client: &Client, printer: Printer) -> Result<(), Failure> {
        let (words, name) = match self {
            Self::List { words } => (words, "list"),
            Self::Disarm { words } => (words, "disarm"),
        };
        if !words.is_empty() {
            let message = format!("alarm {name} command accepts no arguments");
            return Err(Failure::arguments(message));
        }
        printer.has_no_table()?;
        let alarms = alarms(client).await?;
        match self {
            Self::List { .. } => printer.print(&alarms),
            Self::Disarm { .. } => {
                let mut disarmed = AlarmResponse::default();
                for alarm in alarms.alarms {
                    disarmed.alarms.extend(disarm(client, alarm).await?.alarms);
                }
                printer.print(&disarmed)
            }
        }
    }
}

/// The alarms.
///
/// # Errors
///
/// As the server refuses to tell.
pub(super) async fn alarms(client: &Client) -> Result<AlarmResponse, Failure> {
    let request = AlarmRequest {
        action: AlarmAction::Get.into(),
        ..AlarmRequest::default()
    };
    let list = async |service| maintenance(service).alarm(request).await;
    client.ask(Effect::Reads, list).await
}

async fn disarm(client: &Client, alarm: AlarmMember) -> Result<AlarmResponse, Failure> {
    let request = AlarmRequest {
        action: AlarmAction::Deactivate.into(),
        member_id: alarm.member_id,
        alarm: alarm.alarm,
    };
    let disarm = async |service| maintenance(service).alarm(request).await;
    client.ask(Effect::Writes, disarm).await
}

impl Report for AlarmResponse {
    fn simple(&self, text: &mut Text) {
        for alarm in &self.alarms {
            text.line(format_args!(
                "memberID:{} alarm:{} ",
                alarm.member_id,
                alarm_name(alarm)
            ));
        }
    }

    fn fields(&self, text: &mut Text) {
        text.header(self.header.as_ref());
        for alarm in &self.alarms {
            text.field("MemberID", alarm.member_id);
            text.field("AlarmType", alarm_name(alarm));
            text.line("");
        }
    }

    fn json(&self, _: bool) -> String {
        let alarm = |alarm: &AlarmMember| {
            Object::new()
                .number("memberID", alarm.member_id)
                .number("alarm", alarm.alarm)
                .end()
        };
        Object::new()
            .header("header", self.header.as_ref())
            .list("alarms", self.alarms.iter().map(alarm))
            .end()
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}

/// The arguments of `defrag`.
#[derive(Args)]
pub(crate) struct Defrag {
    /// Ignored
    #[arg(hide = true)]
    words: Vec<OsString>,
    /// All members of the cluster, wherever they are
    #[arg(long)]
    cluster: bool,
    /// The data directory of a node that does not run, in the place of endpoints
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Defrag {
    pub(super) async fn run(&self, client: &Client) -> Result<(), Failure> {
        if let Some(directory) = &self.data_dir {
            return defragment_directory(directory);
        }
        let mut outcome = Ok(());
        // One after the other: a member may be busy with it.
        for endpoint in named(client, self.cluster).await? {
            match defragment(&client.at(vec![endpoint.clone()])?).await {
                Ok(()) => output::print(&format!("Finished defragmenting etcd member[{endpoint}]\n"))?,
                Err(failure) => {
                    say(&format!(
                        "Failed to defragment etcd member[{endpoint}] ({failure})"
                    ));
                    outcome = Err(Failure::Silent(code::ERROR));
                }
            }
        }
        outcome
    }
}

/// A data directory of ours never holds space that it does not use; one of etcd's is for etcd's tools.
fn defragment_directory(directory: &Path) -> Result<(), Failure> {
    let shown = directory.display();
    let cannot = |why: &str| {
        let message = format!("Failed to defragment etcd data[{shown}] ({why})");
        Failure::error(message)
    };
    if directory.join("member").exists() {
        return Err(cannot("it is etcd's: etcdutl defrag is made for that"));
    }
    if !directory.join("IDENTITY").exists() {
        return Err(cannot("it is no data directory"));
    }
    Ok(output::print(&format!(
        "Finished defragmenting directory[{shown}]\n"
    ))?)
}

/// Has an endpoint give space back that it does not use.
///
/// # Errors
///
/// As the server refuses it.
pub(super) async fn defragment(client: &Client) -> Result<(), Failure> {
    let defragment = async |service| maintenance(service).defragment(DefragmentRequest {}).await;
    client.ask(Effect::Writes, defragment).await.map(|_| ())
}

/// The arguments of `move-leader`.
#[derive(Args)]
pub(crate) struct MoveLeader {
    /// The member that is to lead, in hexadecimal
    #[arg(value_name = "ID")]
    words: Vec<OsString>,
}

impl MoveLeader {
    pub(super) async fn run(&self, client: &Client) -> Result<(), Failure> {
        let [target] = self.words.as_slice() else {
            return Err(Failure::arguments("move-leader command needs 1 argument"));
        };
        let target_id = args::unsigned(&args::text(target), 16).map_err(Failure::arguments)?;
        let mut leader = None;
        for endpoint in client.endpoints() {
            let one = client.at(vec![endpoint])?;
            let ask = async |service| maintenance(service).status(StatusRequest {}).await;
            // Another endpoint may be the leader's.
            let Ok(status) = one.ask(Effect::Reads, ask).await else {
                continue;
            };
            let member = status.header.as_ref().map_or(0, |header| header.member_id);
            if member == status.leader {
                leader = Some((one, member));
                break;
            }
        }
        let Some((leader, id)) = leader else {
            let endpoints = client.endpoints().join(" ");
            return Err(Failure::arguments(format!(
                "no leader endpoint given at [{endpoints}]"
            )));
        };
        let request = MoveLeaderRequest { target_id };
        let hand_over = async |service| maintenance(service).move_leader(request).await;
        leader.ask(Effect::Writes, hand_over).await?;
        let line = format!("Leadership transferred from {id:x} to {target_id:x}\n");
        Ok(output::print(&line)?)
    }
}

/// What can be done about an older version.
#[derive(Subcommand)]
pub(crate) enum Downgrade {
    /// Say whether the cluster could go back to a version
    #[command(after_help = "Example:\n  quorate ctl downgrade validate 3.4")]
    Validate {
        /// The version
        #[arg(value_name = "VERSION")]
        words: Vec<OsString>,
    },
    /// Begin to go back to a version
    #[command(after_help = "Example:\n  quorate ctl downgrade enable 3.4")]
    Enable {
        /// The version
        #[arg(value_name = "VERSION")]
        words: Vec<OsString>,
    },
    /// Stop to go back
    #[command(after_help = "Example:\n  quorate ctl downgrade cancel")]
    Cancel,
}

impl Downgrade {
    pub(super) async fn run(&self, client: &Client, printer: Printer) -> Result<(), Failure> {
        printer.has_no_table()?;
        let (action, name, words) = match self {
            Self::Validate { words } => (DowngradeAction::Validate, "validate", words.as_slice()),
            Self::Enable { words } => (DowngradeAction::Enable, "enable", words.as_slice()),
            Self::Cancel => (DowngradeAction::Cancel, "cancel", &[][..]),
        };
        let version = match (action, words) {
            (DowngradeAction::Cancel, _) => String::new(),
            (_, []) => return Err(Failure::arguments("TARGET_VERSION not provided")),
            (_, [version]) => args::text(version),
            (_, [_, ..]) => return Err(Failure::arguments("too many arguments")),
        };
        let request = DowngradeRequest {
            action: action.into(),
            version,
        };
        let downgrade = async |service| maintenance(service).downgrade(request.clone()).await;
        let response = client.ask(Effect::Writes, downgrade).await?;
        printer.print(&super::print::Done {
            header: response.header.as_ref(),
            message: &response,
            line: format!("Downgrade {name} success, cluster version {}", response.version),
        })
    }
}
