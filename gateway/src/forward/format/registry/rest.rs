//! The part of Confluent's REST API that a producer needs.

use serde::Deserialize;
use serde_json::json;

use super::http::Http;

/// No version of the subject is there yet: 40401 names the subject, 40402 the version.
const NOTHING_YET: [u32; 2] = [40401, 40402];

/// A schema could not be registered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// The registry does not answer, or not as one; another time it may.
    Away(String),
    /// It refuses; somebody has to change something.
    Refused(String),
}

#[derive(Deserialize)]
struct Fault {
    error_code: u32,
    message: String,
}

#[derive(Deserialize)]
struct Compatibility {
    is_compatible: bool,
}

#[derive(Deserialize)]
struct Registered {
    id: u32,
}

/// Registers `schema` as the newest version of `subject`, if it is compatible with those before, and
/// gives its id; the id of one that is there already.
///
/// # Errors
/// [`Problem`].
pub(super) async fn register(http: &Http, subject: &str, schema: &str) -> Result<u32, Problem> {
    let body = json!({ "schema": schema }).to_string();
    let path = format!("/compatibility/subjects/{subject}/versions/latest");
    match post::<Compatibility>(http, subject, &path, body.clone()).await {
        Ok(Compatibility { is_compatible: true }) | Err(Answer::NothingYet) => {}
        Ok(Compatibility { is_compatible: false }) => return Err(incompatible(subject, "")),
        Err(Answer::Problem(problem)) => return Err(problem),
    }
    let path = format!("/subjects/{subject}/versions");
    match post::<Registered>(http, subject, &path, body).await {
        Ok(Registered { id }) => Ok(id),
        Err(Answer::Problem(problem)) => Err(problem),
        Err(Answer::NothingYet) => Err(Problem::Refused(format!(
            "the registry says that the subject {subject} is not there when it is to be made: is \
             it read only?"
        ))),
    }
}

enum Answer {
    NothingYet,
    Problem(Problem),
}

async fn post<T: for<'de> Deserialize<'de>>(
    http: &Http,
    subject: &str,
    path: &str,
    body: String,
) -> Result<T, Answer> {
    let answer = http.post(path, body).await;
    let (status, body) = answer.map_err(|why| Answer::Problem(Problem::Away(why)))?;
    if status == 200 {
        return serde_json::from_slice(&body).map_err(|problem| {
            let why = format!("an answer that is none of a registry ({problem})");
            Answer::Problem(Problem::Away(why))
        });
    }
    let fault = serde_json::from_slice::<Fault>(&body).ok();
    if fault.as_ref().is_some_and(|fault| NOTHING_YET.contains(&fault.error_code)) {
        return Err(Answer::NothingYet);
    }
    let said = fault.map_or_else(
        || format!("status {status}"),
        |fault| format!("{} ({})", fault.message, fault.error_code),
    );
    Err(Answer::Problem(match status {
        401 | 403 => Problem::Refused(format!(
            "the registry refuses the login for subject {subject}: {said}; see username, password \
             and token of the registry"
        )),
        409 => incompatible(subject, &format!(": {said}")),
        404 => Problem::Refused(format!("no registry answers there: {said}; see its url")),
        422 => Problem::Refused(format!("the registry refuses the schema of {subject}: {said}")),
        _ => Problem::Away(said),
    }))
}

fn incompatible(subject: &str, said: &str) -> Problem {
    Problem::Refused(format!(
        "the schema of subject {subject} is not compatible with the one that is registered{said}. \
         Give the columns the types that they had, send to another topic, or relax the subject's \
         compatibility at the registry"
    ))
}
