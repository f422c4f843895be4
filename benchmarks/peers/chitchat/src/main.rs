//! A node of chitchat. See benchmarks/peers/__init__.py for what it is told and what it says.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chitchat::transport::UdpTransport;
use chitchat::{
    spawn_chitchat, ChitchatConfig, ChitchatId, FailureDetectorConfig, ProtocolVersion,
};
use serde_json::{json, Value};

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}

fn say(at: f64, event: &str, mut more: Value) {
    more["at"] = json!(at);
    more["event"] = json!(event);
    let mut out = std::io::stdout().lock();
    writeln!(out, "{more}").unwrap();
    out.flush().unwrap();
}

fn address(of: &Value) -> SocketAddr {
    let host: IpAddr = of["host"].as_str().unwrap().parse().unwrap();
    (host, of["port"].as_u64().unwrap() as u16).into()
}

#[tokio::main]
async fn main() {
    let given: Value = serde_json::from_str(&std::env::args().nth(1).unwrap()).unwrap();
    let own = given["id"].as_str().unwrap().to_string();
    let listen_addr = address(&given);
    let interval = Duration::from_millis(given["options"]["interval"].as_u64().unwrap());
    let config = ChitchatConfig {
        chitchat_id: ChitchatId::new(own.as_str(), (now() * 1000.0) as u64, listen_addr),
        cluster_id: "benchmark".to_string(),
        gossip_interval: interval,
        listen_addr,
        seed_nodes: given["seeds"]
            .as_array()
            .unwrap()
            .iter()
            .map(|seed| address(seed).to_string())
            .collect(),
        failure_detector_config: FailureDetectorConfig {
            // The default is five times the default interval of a second; so it is here.
            initial_interval: interval * 5,
            ..Default::default()
        },
        marked_for_deletion_grace_period: Duration::from_secs(900),
        catchup_callback: None,
        extra_liveness_predicate: None,
        protocol_version: ProtocolVersion::V1,
    };
    let began = now();
    let handle = spawn_chitchat(config, Vec::new(), &UdpTransport)
        .await
        .unwrap();
    let me = own.clone();
    let seen: Mutex<HashMap<String, u64>> = Mutex::default();
    let mut live = handle
        .with_chitchat(|chitchat| chitchat.live_nodes_watcher())
        .await;
    let chitchat = handle.chitchat();
    chitchat
        .lock()
        .await
        .subscribe_event("", move |change| {
            let id = change.node.node_id.as_ref();
            if id == me {
                return;
            }
            let mut parts = change.key.split('/');
            let name = parts.next().unwrap();
            match parts.next() {
                None => say(
                    now(),
                    "update",
                    json!({"id": id, "key": change.key, "value": change.value}),
                ),
                Some(count) => {
                    let mut seen = seen.lock().unwrap();
                    let many = seen.entry(format!("{id}/{name}")).or_default();
                    *many += 1;
                    if *many == count.parse::<u64>().unwrap() {
                        say(now(), "has", json!({"id": id, "name": name}));
                    }
                }
            }
        })
        .forever();
    let watcher = own.clone();
    tokio::spawn(async move {
        let mut known: HashSet<String> = HashSet::from([watcher]);
        while live.changed().await.is_ok() {
            let mut current: HashSet<String> = live
                .borrow_and_update()
                .keys()
                .map(|id| id.node_id.to_string())
                .collect();
            for id in current.difference(&known) {
                say(now(), "peer", json!({"id": id}));
            }
            for id in known.difference(&current).filter(|id| **id != own) {
                say(now(), "dead", json!({"id": id}));
            }
            current.insert(own.clone());
            known = current;
        }
    });
    say(began, "ready", json!({"pid": std::process::id()}));

    let (sender, mut commands) = tokio::sync::mpsc::unbounded_channel::<Value>();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            sender
                .send(serde_json::from_str(&line.unwrap()).unwrap())
                .unwrap();
        }
    });
    while let Some(command) = commands.recv().await {
        let text = |name: &str| command[name].as_str().unwrap().to_string();
        match command["do"].as_str().unwrap() {
            "set" => {
                let at = now();
                chitchat
                    .lock()
                    .await
                    .self_node_state()
                    .set(text("key"), text("value"));
                say(at, "set", json!({"key": text("key")}));
            }
            "fill" => {
                let (at, name, count) = (now(), text("name"), command["count"].as_u64().unwrap());
                let mut locked = chitchat.lock().await;
                for number in 0..count {
                    locked
                        .self_node_state()
                        .set(format!("{name}/{count}/{number}"), "v");
                }
                drop(locked);
                say(at, "filled", json!({"name": name}));
            }
            "state" => {
                let locked = chitchat.lock().await;
                let keys: HashMap<String, usize> = locked
                    .node_states()
                    .iter()
                    .map(|(id, state)| (id.node_id.to_string(), state.num_key_values()))
                    .collect();
                say(now(), "state", json!({"keys": keys}));
            }
            _ => break,
        }
    }
    std::process::exit(0);
}
