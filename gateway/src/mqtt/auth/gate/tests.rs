use super::*;
use crate::config::{LimitsConfig, RulesConfig};
use crate::mqtt::auth::hash_password;

fn rules(publish: &[&str]) -> RulesConfig {
    let publish = publish.iter().map(|filter| (*filter).to_owned()).collect();
    RulesConfig { publish, ..RulesConfig::default() }
}

fn user(name: &str, hash: &str, publish: &[&str]) -> UserConfig {
    UserConfig {
        name: name.to_owned(),
        password_hash: hash.to_owned(),
        rules: rules(publish),
        limits: LimitsConfig::default(),
    }
}

fn anonymous(publish: &[&str]) -> AnonymousConfig {
    AnonymousConfig { rules: rules(publish), limits: LimitsConfig::default() }
}

fn gate(users: &[UserConfig], anonymous: Option<&AnonymousConfig>) -> Gate {
    Gate::new(users, anonymous, Counter::default())
}

fn login(user: &str, password: &str) -> Option<Login> {
    Some(Login { user: user.to_owned(), password: password.into() })
}

fn peer(address: [u8; 4]) -> Peer {
    Peer::from(std::net::SocketAddr::from((address, 1)))
}

fn certified_peer(name: &str) -> Peer {
    Peer { certificate: Some(name.into()), ..peer([10, 0, 0, 1]) }
}

async fn enter(gate: &Gate, login: Option<Login>, peer: &Peer) -> Result<Pass, u8> {
    gate.enter(login, &"c".into(), peer).await.map_err(|fault| fault.reason)
}

#[tokio::test]
async fn a_user_enters_with_the_right_password_only() {
    let hash = hash_password("geheim").expect("a hash");
    let gate = gate(&[user("pump-7", &hash, &["a"])], None);
    let peer = peer([10, 0, 0, 1]);
    let pass = enter(&gate, login("pump-7", "geheim"), &peer).await.expect("let in");
    assert!(pass.access().may_publish("a") && !pass.access().may_publish("b"));
    for (login, expected) in [
        (login("pump-7", "falsch"), reason::BAD_CREDENTIALS),
        (login("pump-8", "geheim"), reason::BAD_CREDENTIALS),
        (None, reason::NOT_AUTHORIZED),
    ] {
        assert_eq!(enter(&gate, login, &peer).await.expect_err("refused"), expected);
    }
}

#[tokio::test]
async fn without_users_only_loopback_enters_unless_anonymous_is_configured() {
    let closed = gate(&[], None);
    assert!(enter(&closed, None, &peer([127, 0, 0, 1])).await.is_ok());
    assert!(enter(&closed, login("x", "y"), &peer([127, 0, 0, 1])).await.is_ok());
    assert!(enter(&closed, None, &peer([10, 0, 0, 1])).await.is_err());
    assert!(enter(&closed, None, &certified_peer("x")).await.is_err());
    let open = gate(&[], Some(&anonymous(&["#"])));
    assert!(enter(&open, None, &peer([10, 0, 0, 1])).await.is_ok());
    assert!(enter(&open, login("x", "y"), &peer([10, 0, 0, 1])).await.is_err());
}

#[tokio::test]
async fn a_certificate_is_a_name_without_a_password() {
    let gate = gate(&[user("pump-7", "no hash", &["u/{user}"])], None);
    let peer = certified_peer("pump-7");
    for login in [None, login("pump-7", ""), login("", "x")] {
        let pass = enter(&gate, login, &peer).await.expect("let in");
        assert!(pass.access().may_publish("u/pump-7"));
    }
    let other = enter(&gate, login("pump-8", "geheim"), &peer).await;
    assert_eq!(other.expect_err("two names"), reason::BAD_CREDENTIALS);
    let unknown = enter(&gate, None, &certified_peer("pump-8")).await;
    assert_eq!(unknown.expect_err("no user"), reason::NOT_AUTHORIZED);
}

#[tokio::test]
async fn a_certificate_of_no_user_has_the_rules_of_anonymous() {
    let anonymous = anonymous(&["any/{user}"]);
    let gate = gate(&[user("pump-7", "no hash", &["a"])], Some(&anonymous));
    let pass = enter(&gate, None, &certified_peer("pump-8")).await.expect("let in");
    assert!(pass.access().may_publish("any/pump-8") && !pass.access().may_publish("a"));
    let pass = enter(&gate, None, &certified_peer("pump-7")).await.expect("let in");
    assert!(pass.access().may_publish("a") && !pass.access().may_publish("any/pump-7"));
    let pass = enter(&gate, None, &certified_peer("a/+")).await.expect("let in");
    assert!(!pass.access().may_publish("any/a/x"));
}

#[tokio::test]
async fn a_reload_renews_who_may_stay_and_names_who_may_not() {
    let hash = hash_password("geheim").expect("a hash");
    let named = user("pump-7", &hash, &["a"]);
    let gate = gate(std::slice::from_ref(&named), Some(&anonymous(&["any"])));
    let peer = peer([10, 0, 0, 1]);
    let mut pass = enter(&gate, login("pump-7", "geheim"), &peer).await.expect("let in");
    let mut nobody = enter(&gate, None, &peer).await.expect("let in");
    assert_eq!(pass.generation(), gate.generation());

    gate.reload(&[UserConfig { rules: rules(&["b"]), ..named.clone() }], None);
    assert!(pass.generation() < gate.generation());
    let access = gate.renew(&mut pass).expect("still a user");
    assert!(access.may_publish("b") && !access.may_publish("a"));
    assert_eq!(pass.generation(), gate.generation());
    assert!(gate.keeps(pass.shown()) && !gate.keeps(nobody.shown()));
    let fault = gate.renew(&mut nobody).expect_err("no [anonymous]");
    assert_eq!(fault.reason, reason::NOT_AUTHORIZED);

    gate.reload(&[UserConfig { password_hash: "another".to_owned(), ..named }], None);
    assert!(!gate.keeps(pass.shown()), "another password");
    gate.reload(&[], None);
    assert!(!gate.keeps(pass.shown()), "its user is gone, though the door is open");
}

#[tokio::test]
async fn a_user_keeps_its_count_of_connections_over_a_reload() {
    let limited = LimitsConfig { max_connections: Some(1), ..LimitsConfig::default() };
    let named = UserConfig { limits: limited, ..user("pump-7", "no hash", &["a"]) };
    let gate = gate(std::slice::from_ref(&named), None);
    let peer = certified_peer("pump-7");
    let mut first = enter(&gate, None, &peer).await.expect("let in");
    first.sit().expect("the first");
    gate.reload(std::slice::from_ref(&named), None);
    gate.renew(&mut first).expect("still a user");
    let mut second = enter(&gate, None, &peer).await.expect("let in");
    let fault = second.sit().expect_err("one is there");
    assert_eq!(fault.reason, reason::QUOTA);
    assert!(fault.why.contains("pump-7"), "{fault}");
    drop(first);
    second.sit().expect("a free seat");
}

#[tokio::test]
async fn an_address_that_fails_too_often_is_refused_unheard_and_others_are_not() {
    let limited = Counter::default();
    let gate = Gate::new(&[], Some(&anonymous(&["a"])), limited.clone());
    let flood = peer([10, 0, 0, 1]);
    let mut wrong = 0;
    let code = loop {
        match enter(&gate, login("x", "y"), &flood).await.expect_err("no user") {
            reason::BAD_CREDENTIALS => wrong += 1,
            code => break code,
        }
    };
    assert_eq!((code, limited.get()), (reason::CONNECTION_RATE, 1));
    assert!((20..30).contains(&wrong), "{wrong}");
    assert!(enter(&gate, None, &flood).await.is_ok(), "only logins are limited");
    let other = enter(&gate, login("x", "y"), &peer([10, 0, 0, 2])).await;
    assert_eq!(other.expect_err("no user"), reason::BAD_CREDENTIALS);
}
