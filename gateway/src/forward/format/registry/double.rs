//! A double of a schema registry, as strict as the documented API: it refuses requests that a real
//! one would, checks schemas with the library, and compatibility as BACKWARD, which is the default.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use apache_avro::Schema;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use serde_json::{Value as Json, json};

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// What it holds; outlives the server, as a registry's topic does.
#[derive(Default)]
pub(crate) struct Content {
    /// Schemas in their canonical form; the id is the place, from 1.
    pub(crate) schemas: Vec<String>,
    /// Ids of the versions of each subject.
    pub(crate) subjects: BTreeMap<String, Vec<usize>>,
    /// The `Authorization` that it wants.
    pub(crate) login: Option<String>,
}

/// A running one; ends with this value.
pub(crate) struct Double {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Double {
    /// Listens on a free port, or on `port`.
    pub(crate) fn start(port: u16, content: Arc<Mutex<Content>>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ends.load(Ordering::Acquire) {
                    return;
                }
                // A client that goes away is none of the registry's business.
                let _ = stream.and_then(|stream| serve(stream, &content));
            }
        });
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the double does not panic");
        }
    }
}

struct Request {
    line: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

fn serve(mut stream: TcpStream, content: &Mutex<Content>) -> io::Result<()> {
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    let request = read(&mut stream)?;
    let (status, answer) = answer(&request, &mut content.lock().expect("no test panics with it"));
    let body = answer.to_string();
    write!(
        stream,
        "HTTP/1.1 {status} Status\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

fn read(stream: &mut TcpStream) -> io::Result<Request> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => bytes.extend_from_slice(&buffer[..read]),
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or_default().to_owned();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = bytes.split_off(head + 4);
    while body.len() < length {
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => body.extend_from_slice(&buffer[..read]),
        }
    }
    Ok(Request { line, headers, body })
}

fn fault(status: u16, code: u32, message: &str) -> (u16, Json) {
    (status, json!({ "error_code": code, "message": message }))
}

fn answer(request: &Request, content: &mut Content) -> (u16, Json) {
    if content.login.is_some() && request.headers.get("authorization") != content.login.as_ref() {
        return fault(401, 40101, "Unauthorized");
    }
    let header = |name: &str| request.headers.get(name).map(String::as_str);
    if header("content-type") != Some(CONTENT_TYPE) {
        return fault(415, 415, "HTTP 415 Unsupported Media Type");
    }
    if header("accept") != Some(CONTENT_TYPE) || header("host").is_none() {
        return fault(406, 406, "HTTP 406 Not Acceptable");
    }
    let path = request.line.strip_prefix("POST ").and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
    let Some(path) = path else { return fault(405, 405, "HTTP 405 Method Not Allowed") };
    let schema = match schema_of(&request.body) {
        Ok(schema) => schema,
        Err(answer) => return answer,
    };
    match path.split('/').collect::<Vec<_>>()[..] {
        ["", "compatibility", "subjects", subject, "versions", "latest"] => {
            match content.subjects.get(subject).and_then(|versions| versions.last()) {
                None => fault(404, 40401, &format!("Subject '{subject}' not found.")),
                Some(id) => {
                    (200, json!({ "is_compatible": reads(&schema, &content.schemas[id - 1]) }))
                }
            }
        }
        ["", "subjects", subject, "versions"] => register(content, subject, &schema),
        _ => fault(404, 404, "HTTP 404 Not Found"),
    }
}

fn schema_of(body: &[u8]) -> Result<Schema, (u16, Json)> {
    let body: Json = serde_json::from_slice(body)
        .map_err(|problem| fault(400, 400, &format!("Unable to process JSON: {problem}")))?;
    let unknown = body
        .as_object()
        .into_iter()
        .flatten()
        .find(|(name, _)| !["schema", "schemaType", "references"].contains(&name.as_str()));
    if let Some((name, _)) = unknown {
        return Err(fault(422, 422, &format!("Unrecognized field: {name}")));
    }
    let text = body["schema"].as_str().ok_or_else(|| fault(422, 42201, "Empty schema"))?;
    Schema::parse_str(text)
        .map_err(|problem| fault(422, 42201, &format!("Invalid schema: {problem}")))
}

fn register(content: &mut Content, subject: &str, schema: &Schema) -> (u16, Json) {
    let text = serde_json::to_string(schema).expect("a schema is JSON");
    let known = content.schemas.iter().position(|known| *known == text).map(|place| place + 1);
    let versions = content.subjects.entry(subject.to_owned()).or_default();
    if let Some(id) = known.filter(|id| versions.contains(id)) {
        return (200, json!({ "id": id }));
    }
    if let Some(latest) = versions.last()
        && !reads(schema, &content.schemas[latest - 1])
    {
        let message = format!(
            "Schema being registered is incompatible with an earlier schema for subject \
             \"{subject}\""
        );
        return fault(409, 409, &message);
    }
    let id = known.unwrap_or_else(|| {
        content.schemas.push(text);
        content.schemas.len()
    });
    versions.push(id);
    (200, json!({ "id": id }))
}

/// BACKWARD: the new schema reads what was written with the latest.
fn reads(new: &Schema, latest: &str) -> bool {
    let latest = Schema::parse_str(latest).expect("it was parsed before");
    matches!(SchemaCompatibility::can_read(&latest, new), Ok(Compatibility::Full))
}
