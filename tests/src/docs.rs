//! The repository's documents, for those who check that what they say is so. I/O: reads files.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// The repository: cargo tells tests at run time where they are, and make starts our programs there. What was compiled in would be the place of whichever clone has built
/// last into a folder that several share.
pub fn root() -> PathBuf {
    env::var_os("CARGO_MANIFEST_DIR").map_or_else(PathBuf::new, |tests| Path::new(&tests).join(".."))
}

/// A document by its path in the repository.
///
/// # Panics
/// If it is not there.
pub fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).expect("the document is in the repository")
}

/// The seed's blocks of YAML, in their order, as people would apply them: two are but sections, three leave the cluster's own lines out, as a comment there says.
///
/// # Panics
/// If the document is not there.
pub fn seed_examples() -> Vec<String> {
    let seed = read("tests/examples/seed.md");
    blocks(&seed).filter(|(language, _)| *language == "yaml").map(|(_, block)| whole(block)).collect()
}

fn whole(block: &str) -> String {
    let mut block = block.to_owned();
    if !block.contains("kind:") {
        block = format!("apiVersion: adx-mon.azure.com/v1\nkind: ADXCluster\nmetadata:\n  name: section\n{block}");
    }
    if !block.contains("clusterName:") && block.contains("kind: ADXCluster") {
        let name = block.lines().find_map(|line| line.strip_prefix("  name: ")).unwrap_or_default();
        let own = format!("spec:\n  clusterName: {name}\n  endpoint: https://{name}.kusto.windows.net\n");
        block = block.replace("spec:\n", &own);
    }
    block
}

/// The fenced blocks of a document, each with its language.
pub fn blocks(text: &str) -> impl Iterator<Item = (&str, &str)> {
    // Between two fences, and outside of them, in turns.
    text.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'))
}

/// The block that is an object of ours of this kind and name.
///
/// # Panics
/// If there is none.
pub fn object<'a>(text: &'a str, kind: &str, name: &str) -> &'a str {
    let begins = format!("kind: {kind}\nmetadata:\n  name: {name}\n");
    let found = blocks(text).find(|(language, block)| *language == "yaml" && block.contains(&begins));
    found.unwrap_or_else(|| panic!("no block is {kind} '{name}'")).1
}

/// How README.md deploys the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deploying {
    /// Where `make images` leaves the image, from the home folder.
    pub archive: String,
    /// The image, in somebody's registry.
    pub image: String,
    /// The kustomization that is told of that.
    pub kustomization: String,
    /// What kubectl is told then, one command after the other, as words.
    pub kubectl: [Vec<String>; 4],
}

/// The commands by which README.md deploys the operator: each of them, so that whoever changes one has to say here what is to be tried of it.
///
/// # Panics
/// If they are others.
pub fn deploying(readme: &str) -> Deploying {
    let mut told = blocks(readme).filter(|(language, block)| *language == "sh" && block.contains("kubectl "));
    let (Some((_, block)), None) = (told.next(), told.next()) else { panic!("one block tells how to deploy") };
    let lines = block.lines().map(|line| line.split_once('#').map_or(line, |(command, _)| command).trim());
    let commands: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    parse(&commands).unwrap_or_else(|| panic!("README.md deploys by other commands: {commands:#?}"))
}

fn parse(commands: &[&str]) -> Option<Deploying> {
    let ["make images", copied, told, kubectl @ ..] = commands else { return None };
    let (archive, image) = copied.strip_prefix("skopeo copy oci-archive:$HOME/")?.split_once(" docker://")?;
    let (kustomization, told) =
        told.strip_prefix("(cd ")?.split_once(" && kustomize edit set image adx-federation=")?;
    let words = |command: &&str| Some(command.strip_prefix("kubectl ")?.split(' ').map(str::to_owned).collect());
    let kubectl: Vec<Vec<String>> = kubectl.iter().map(words).collect::<Option<_>>()?;
    let deploying = Deploying {
        archive: archive.to_owned(),
        image: image.to_owned(),
        kustomization: kustomization.to_owned(),
        kubectl: kubectl.try_into().ok()?,
    };
    (told.strip_suffix(')')? == image).then_some(deploying)
}
