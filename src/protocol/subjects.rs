//! The 57 subjects of MMLU and their four groups, as its authors' `categories.py` has them.

use serde::Serialize;

/// A group of subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Group {
    /// Mathematics, sciences, computing, engineering.
    #[serde(rename = "STEM")]
    Stem,
    /// History, law, philosophy.
    #[serde(rename = "humanities")]
    Humanities,
    /// Politics, culture, economics, geography, psychology.
    #[serde(rename = "social sciences")]
    SocialSciences,
    /// Business, health and the rest.
    #[serde(rename = "other")]
    Other,
}

impl Group {
    /// All four groups, in the benchmark's order.
    pub const ALL: [Group; 4] = [Group::Stem, Group::Humanities, Group::SocialSciences, Group::Other];

    /// Returns the name of the group in reports.
    pub fn name(self) -> &'static str {
        match self {
            Group::Stem => "STEM",
            Group::Humanities => "humanities",
            Group::SocialSciences => "social sciences",
            Group::Other => "other",
        }
    }

    /// Returns the group of a subject; `None` for a subject that is not one of MMLU's.
    pub fn of(subject: &str) -> Option<Group> {
        SUBJECTS.iter().find(|(name, _)| *name == subject).map(|(_, group)| *group)
    }
}

use Group::{Humanities, Other, SocialSciences, Stem};

/// Every subject and its group.
pub const SUBJECTS: [(&str, Group); 57] = [
    ("abstract_algebra", Stem),
    ("anatomy", Other),
    ("astronomy", Stem),
    ("business_ethics", Other),
    ("clinical_knowledge", Other),
    ("college_biology", Stem),
    ("college_chemistry", Stem),
    ("college_computer_science", Stem),
    ("college_mathematics", Stem),
    ("college_medicine", Other),
    ("college_physics", Stem),
    ("computer_security", Stem),
    ("conceptual_physics", Stem),
    ("econometrics", SocialSciences),
    ("electrical_engineering", Stem),
    ("elementary_mathematics", Stem),
    ("formal_logic", Humanities),
    ("global_facts", Other),
    ("high_school_biology", Stem),
    ("high_school_chemistry", Stem),
    ("high_school_computer_science", Stem),
    ("high_school_european_history", Humanities),
    ("high_school_geography", SocialSciences),
    ("high_school_government_and_politics", SocialSciences),
    ("high_school_macroeconomics", SocialSciences),
    ("high_school_mathematics", Stem),
    ("high_school_microeconomics", SocialSciences),
    ("high_school_physics", Stem),
    ("high_school_psychology", SocialSciences),
    ("high_school_statistics", Stem),
    ("high_school_us_history", Humanities),
    ("high_school_world_history", Humanities),
    ("human_aging", Other),
    ("human_sexuality", SocialSciences),
    ("international_law", Humanities),
    ("jurisprudence", Humanities),
    ("logical_fallacies", Humanities),
    ("machine_learning", Stem),
    ("management", Other),
    ("marketing", Other),
    ("medical_genetics", Other),
    ("miscellaneous", Other),
    ("moral_disputes", Humanities),
    ("moral_scenarios", Humanities),
    ("nutrition", Other),
    ("philosophy", Humanities),
    ("prehistory", Humanities),
    ("professional_accounting", Other),
    ("professional_law", Humanities),
    ("professional_medicine", Other),
    ("professional_psychology", SocialSciences),
    ("public_relations", SocialSciences),
    ("security_studies", SocialSciences),
    ("sociology", SocialSciences),
    ("us_foreign_policy", SocialSciences),
    ("virology", Other),
    ("world_religions", Humanities),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_have_the_benchmarks_sizes() {
        let sizes = Group::ALL.map(|g| SUBJECTS.iter().filter(|(_, group)| *group == g).count());
        assert_eq!(sizes, [18, 13, 12, 14]);
        assert!(SUBJECTS.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn subjects_know_their_group() {
        assert_eq!(Group::of("machine_learning"), Some(Stem));
        assert_eq!(Group::of("prehistory"), Some(Humanities));
        assert_eq!(Group::of("econometrics"), Some(SocialSciences));
        assert_eq!(Group::of("virology"), Some(Other));
        assert_eq!(Group::of("my_own_questions"), None);
    }

    #[test]
    fn json_has_the_names() {
        for group in Group::ALL {
            assert_eq!(serde_json::to_value(group).unwrap(), group.name());
        }
    }
}
