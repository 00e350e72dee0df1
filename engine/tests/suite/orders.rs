//! x

use crate::check;
use crate::generate::story;
use crate::world::World;

#[test]
fn a_venue_that_breaks_its_word_breaks_nothing_else() {
    check(200, &story(60), |(setup, steps)| {
        let mut world = World::new(&setup);
        world.lying_venue = true;
        steps.iter().try_for_each(|step| world.run(step))
    });
}
