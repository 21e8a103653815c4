//! Users in a configuration file, added and taken away with all else as it was written.

use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, Value, value};

const USER: &str = "user";

/// A configuration as a text that can be changed.
pub(super) struct Users {
    document: DocumentMut,
}

/// A user to be added.
pub(super) struct NewUser<'a> {
    pub(super) name: &'a str,
    pub(super) password_hash: &'a str,
    pub(super) publish: &'a [String],
    pub(super) subscribe: &'a [String],
}

impl NewUser<'_> {
    /// The `[[user]]` as a text of its own.
    pub(super) fn to_toml(&self) -> String {
        let mut users = Users { document: DocumentMut::new() };
        users.add(self);
        users.to_toml().trim().to_owned()
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.insert("name", value(self.name));
        table.insert("password", value(self.password_hash));
        table.insert("publish", value(list(self.publish)));
        table.insert("subscribe", value(list(self.subscribe)));
        table
    }
}

impl Users {
    /// # Errors
    /// What is no TOML, or users that are no tables.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let document: DocumentMut =
            text.parse().map_err(|problem: toml_edit::TomlError| problem.to_string())?;
        match document.get(USER) {
            None | Some(Item::ArrayOfTables(_)) => Ok(Self { document }),
            Some(_) => Err("user is not written as [[user]]".to_owned()),
        }
    }

    pub(super) fn to_toml(&self) -> String {
        self.document.to_string()
    }

    /// False if there is one of that name.
    pub(super) fn add(&mut self, user: &NewUser<'_>) -> bool {
        if self.position(user.name).is_some() {
            return false;
        }
        let mut table = user.table();
        // Behind the last table of the file, whatever follows its users.
        table.set_position(Some(isize::MAX));
        table.decor_mut().set_prefix("\n");
        let empty = || Item::ArrayOfTables(ArrayOfTables::new());
        let users = self.document.entry(USER).or_insert_with(empty);
        let users = users.as_array_of_tables_mut().expect("parse has looked");
        users.push(table);
        true
    }

    /// False if there is none of that name.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        let Some(index) = self.position(name) else { return false };
        if let Some(users) = self.document.get_mut(USER).and_then(Item::as_array_of_tables_mut) {
            users.remove(index);
        }
        true
    }

    fn position(&self, name: &str) -> Option<usize> {
        let users = self.document.get(USER)?.as_array_of_tables()?;
        users.iter().position(|user| user.get("name").and_then(Item::as_str) == Some(name))
    }
}

/// One a line: topics are long.
fn list(topics: &[String]) -> Array {
    let mut array = Array::new();
    for topic in topics {
        let mut topic = Value::from(topic);
        topic.decor_mut().set_prefix("\n    ");
        array.push_formatted(topic);
    }
    array.set_trailing_comma(true);
    array.set_trailing("\n");
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# mine\n[gateway] # the gateway\nid = \"g\"\n\n# pumps\n[[user]]\nname = \
                        \"pump\" # old\npassword = \"x\"\n\n# the page\n[http]\nlisten   =   \
                        \"127.0.0.1:1\"\n# the end\n";

    fn node<'a>(name: &'a str, topics: &'a [String]) -> NewUser<'a> {
        NewUser { name, password_hash: "hash", publish: topics, subscribe: &[] }
    }

    #[test]
    fn a_user_is_added_behind_all_else_which_stays_as_it_was() {
        let topics = ["a/b".to_owned(), "a/c".to_owned()];
        let mut users = Users::parse(FILE).expect("TOML");
        assert!(users.add(&node("n-1", &topics)) && !users.add(&node("n-1", &topics)));
        assert!(!users.add(&node("pump", &topics)), "any user counts");
        let text = users.to_toml();
        let (before, added) = text.split_at(FILE.len() - "# the end\n".len());
        assert_eq!(before, FILE.strip_suffix("# the end\n").expect("it ends so"));
        for part in
            ["# the end\n", "\n[[user]]\nname = \"n-1\"\npassword = \"hash\"\n", "\n    \"a/b\",\n"]
        {
            assert!(added.contains(part), "{part:?} in {added}");
        }
        assert!(users.remove("n-1") && !users.remove("n-1"));
        assert_eq!(users.to_toml(), FILE);
    }

    #[test]
    fn a_user_taken_away_leaves_its_neighbours() {
        let mut users = Users::parse(FILE).expect("TOML");
        assert!(users.remove("pump"));
        let text = users.to_toml();
        assert!(!text.contains("pump") && text.contains("# the page\n[http]"), "{text}");
        assert!(text.starts_with("# mine\n[gateway] # the gateway\n"), "{text}");
    }

    #[test]
    fn users_that_are_no_tables_are_left_alone() {
        assert!(Users::parse("user = [{ name = \"a\" }]").is_err());
        assert!(Users::parse("user = ").is_err());
    }
}
