//! `headwater node`: credentials of sensor nodes. A node is a `[[user]]` that may do on its own
//! topics what a node does, and nothing else.

mod edit;
mod file;

use std::io::Read;
use std::path::Path;

use headwater_shared::topic::{NODE_ID_MAX, Subject, is_node_id, topic};

use self::edit::Users;
use super::{ConfigArg, print_line, table};
use crate::config::{Config, UserConfig};
use crate::exit::{Code, Failure};
use crate::mqtt::hash_password;

/// What a node says.
const PUBLISHES: [Subject; 5] =
    [Subject::Blocks, Subject::Status, Subject::Announce, Subject::Time, Subject::Logs];

/// What it listens to.
const SUBSCRIBES: [Subject; 2] = [Subject::TimeReply, Subject::Command];

/// Bytes of a password: 120 bits are 20 characters.
const PASSWORD_BYTES: usize = 15;

#[derive(clap::Subcommand)]
pub(super) enum NodeCommand {
    /// Make a user for a node, and print once what goes on the node
    Add(AddArgs),
    /// The nodes that may connect
    List(ConfigArg),
    /// Take a node's user away
    Remove(RemoveArgs),
}

#[derive(clap::Args)]
pub(super) struct AddArgs {
    /// The node's id, as in its topics: 1 to 32 of A-Z a-z 0-9 - _ .
    name: String,
    /// Print the [[user]] instead of writing it to the configuration
    #[arg(long)]
    print: bool,
    #[command(flatten)]
    config: ConfigArg,
}

#[derive(clap::Args)]
pub(super) struct RemoveArgs {
    /// The node's id
    name: String,
    #[command(flatten)]
    config: ConfigArg,
}

pub(super) fn node(command: &NodeCommand) -> Result<(), Failure> {
    match command {
        NodeCommand::Add(args) => add(&args.name, args.print, &args.config.path()),
        NodeCommand::List(args) => list(&args.path()),
        NodeCommand::Remove(args) => remove(&args.name, &args.config.path()),
    }
}

fn add(name: &str, print: bool, path: &Path) -> Result<(), Failure> {
    check_name(name)?;
    let password = random_password()?;
    let hash = hash_password(&password).map_err(|problem| Failure::new(Code::Disk, problem))?;
    let user = edit::NewUser {
        name,
        password_hash: &hash,
        publish: &topics(name, &PUBLISHES),
        subscribe: &topics(name, &SUBSCRIBES),
    };
    if print {
        print_line(&user.to_toml());
        // Not where the user is written to.
        show(&settings(name, &password));
        return Ok(());
    }
    let mut users = open(path)?;
    if !users.add(&user) {
        let why = format!("there is a user {name:?} in {} already", path.display());
        return Err(Failure::new(Code::No, format!("{why}; choose another name, or remove it")));
    }
    let config = save(path, &users)?;
    print_line(&settings(name, &password));
    print_line(&format!("{} has its [[user]]; {RELOAD}", path.display()));
    advise(&config);
    Ok(())
}

/// What keeps a new node from connecting, or others.
fn advise(config: &Config) {
    if config.mqtt.listen.ip().is_loopback() {
        print_line(&format!(
            "Nodes of the network cannot reach mqtt.listen = \"{}\"; listen on \"0.0.0.0:1883\".",
            config.mqtt.listen
        ));
    }
    if config.mqtt.users.len() == 1 && config.mqtt.anonymous.is_none() {
        print_line(
            "It is the first user: clients without a name may not connect any more, unless you add \
             [anonymous].",
        );
    }
}

/// As the firmware's build takes them, and any other client can.
fn settings(name: &str, password: &str) -> String {
    format!(
        "HEADWATER_ID={name} HEADWATER_USER={name} HEADWATER_PASSWORD={password}\n\
         These go on the node; the password is shown this once."
    )
}

#[expect(clippy::print_stderr, reason = "what must not be part of the output")]
fn show(text: &str) {
    eprintln!("{text}");
}

const RELOAD: &str = "a running gateway takes it over with: systemctl reload headwater";

fn list(path: &Path) -> Result<(), Failure> {
    let config = Config::load(path)?;
    let rows = config
        .mqtt
        .users
        .iter()
        .filter(|user| is_node(user))
        .map(|user| vec![user.name.clone(), user.rules.publish.join(" ")]);
    print_line(table::render(&["node", "publishes"], &rows.collect::<Vec<_>>()).trim_end());
    Ok(())
}

/// A user that may publish a node's blocks under its own name.
fn is_node(user: &UserConfig) -> bool {
    let blocks = topic(&user.name, Subject::Blocks);
    blocks.is_some_and(|blocks| user.rules.publish.iter().any(|rule| **rule == *blocks))
}

fn remove(name: &str, path: &Path) -> Result<(), Failure> {
    check_name(name)?;
    let known = Config::load(path)?.mqtt.users.into_iter().find(|user| user.name == name);
    if !known.as_ref().is_some_and(is_node) {
        let is = if known.is_some() { "a user but no node" } else { "no user" };
        let why = format!("{name:?} is {is} in {}", path.display());
        return Err(Failure::new(
            Code::No,
            format!("{why}; `headwater node list` shows the nodes"),
        ));
    }
    let mut users = open(path)?;
    users.remove(name);
    let config = save(path, &users)?;
    print_line(&format!("{name} is gone from {}; {RELOAD}", path.display()));
    if config.mqtt.users.is_empty() && config.mqtt.anonymous.is_none() {
        print_line("It was the last user: only programs of this machine may connect now.");
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), Failure> {
    // A configuration's names do not start with a dot.
    if is_node_id(name) && !name.starts_with('.') {
        return Ok(());
    }
    let rule = format!("1 to {NODE_ID_MAX} of A-Z a-z 0-9 - _ . that do not start with a dot");
    Err(Failure::new(Code::Usage, format!("{name:?} is no name of a node: use {rule}")))
}

fn topics(name: &str, subjects: &[Subject]) -> Vec<String> {
    let topic =
        |subject: &Subject| topic(name, *subject).expect("the name was checked").to_string();
    subjects.iter().map(topic).collect()
}

/// The users in a file that is good as a whole.
fn open(path: &Path) -> Result<Users, Failure> {
    Config::load(path)?;
    let text = std::fs::read_to_string(path).map_err(|problem| unreadable(path, &problem))?;
    Users::parse(&text).map_err(|problem| {
        let file = path.display();
        Failure::new(Code::Config, format!("{file}: {problem}; write users as [[user]] tables"))
    })
}

/// Writes the file if it is still good.
fn save(path: &Path, users: &Users) -> Result<Config, Failure> {
    let text = users.to_toml();
    let config = Config::parse_for(path, &text)?;
    file::replace(path, text.as_bytes()).map_err(|problem| {
        Failure::new(Code::Disk, format!("{} cannot be written: {problem}", path.display()))
    })?;
    Ok(config)
}

fn unreadable(path: &Path, problem: &std::io::Error) -> Failure {
    Failure::new(Code::NoInput, format!("{}: {problem}", path.display()))
}

fn random_password() -> Result<String, Failure> {
    use base64::Engine;
    let mut bytes = [0; PASSWORD_BYTES];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .map_err(|problem| Failure::new(Code::Disk, format!("/dev/urandom: {problem}")))?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}
