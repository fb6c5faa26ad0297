"""The words of `bulletins`: what can happen in each of six topics, every happening in two wordings.

In a wording p is a place, w somebody, o a body or firm, all with invented names; n and m are numbers, d a day. The two
wordings share the names and the numbers and as few other words as plain English allows.
"""

from __future__ import annotations

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
BODIES = ("Council", "Union", "Office", "Institute", "Company", "Society")
OPENINGS = (
    "", "", "It was reported on {d} from {p} :", "News from {p} :", "On {d} this was learned in {p} :",
    "A correction of an earlier report from {p} :", "The desk adds , as of {d} :",
)  # fmt: skip
CLOSINGS = (
    "", "", "More is to follow .", "The {o} gave no comment .", "Our reporter in {p} stays on the matter .",
    "This replaces what was sent before {d} .",
)  # fmt: skip
TOPICS = {
    "weather": (
        ("A storm crossed {p} with gusts of {n} .", "Winds of up to {n} swept over {p} during the night ."),
        ("Rain raised the river by {m} inches .", "The stream stood {m} inches higher after the downpour ."),
        ("The {o} warned of frost until {d} .", "Freezing nights will last up to {d} , the {o} says ."),
        ("Forecaster {w} expects a dry spell .", "According to {w} , who reads the charts , the skies will clear ."),
        ("Hail broke {n} panes of glass .", "Ice from the clouds shattered windows , {n} of them in one street ."),
        ("Fog closed in on {p} on {d} .", "Mist hid the roofs of {p} from {d} on ."),
        ("Drought has emptied {m} wells .", "No water is left in {m} wells after the hot weeks ."),
        ("Snow lay {n} inches deep in {p} .", "{p} woke under a white cover of {n} inches ."),
    ),
    "sport": (
        ("{p} won the match by {n} points .", "With {n} points between the sides the cup goes to {p} ."),
        ("Captain {w} scored twice before the break .", "Two goals of the first half were by {w} , who led the team ."),
        ("The {o} will name a new coach on {d} .", "A trainer is sought by the {o} , which decides on {d} ."),
        ("A crowd of {m} cheered at the ground .", "There were {m} spectators in the stands ."),
        ("Runner {w} set a record of {n} laps .", "Never before were {n} laps run as fast as by {w} ."),
        ("The final was moved to {d} .", "Players meet for the last round on {d} instead ."),
        ("The referee sent off {m} players .", "Red cards were shown to {m} men in a rough game ."),
        ("The league fined the {o} .", "For breaking the rules of play the {o} has to pay ."),
    ),
    "markets": (
        ("Shares of the {o} fell by {n} points .", "The {o} lost {n} points on the exchange ."),
        ("Grain was sold at {m} crowns a ton .", "Wheat dealers took {m} crowns for a ton ."),
        ("Broker {w} spoke of nervous trading .", "Buyers hold back , thinks {w} , who deals in bonds ."),
        ("The bank at {p} cut its rate on {d} .", "Loans in {p} have been cheaper since {d} ."),
        ("Profits of the {o} rose to {n} thousand .", "The {o} earned {n} thousand in the quarter ."),
        ("A merger of {m} firms was agreed on {d} .", "From {d} on , {m} companies have one owner ."),
        ("Inflation reached {m} per cent in {p} .", "Prices in {p} are {m} per cent dearer than a year ago ."),
        ("Investors led by {w} bought the debt .", "{w} and other creditors now own the bonds ."),
    ),
    "transport": (
        ("The line to {p} was closed for {n} hours .", "For {n} hours no train could reach {p} ."),
        ("A ferry with {m} on board ran aground .", "A boat that carried {m} passengers sat on a sandbank ."),
        ("Drivers of the {o} will strike on {d} .", "No buses are to leave on {d} , say crews of the {o} ."),
        ("Engineer {w} blamed a worn signal .", "A light on the track had failed , found {w} in an inquiry ."),
        ("The bridge at {p} was shut to lorries .", "Heavy vehicles have to go round the crossing at {p} ."),
        ("Tickets of the {o} will cost {n} pence .", "The {o} asks {n} pence for a ride ."),
        ("The harbour took in {m} ships by {d} .", "By {d} there were {m} vessels at the quays ."),
        ("Pilot {w} landed with one engine .", "With half of its power gone , {w} brought the plane down ."),
    ),
    "science": (
        ("Astronomer {w} counted {n} new stars .", "{n} suns unknown so far are on plates taken by {w} ."),
        ("The {o} opened a laboratory in {p} .", "Experiments have begun in {p} in the rooms of the {o} ."),
        ("Bones of {m} animals were dug up at {p} .", "Fossils from {m} beasts came to light in the clay of {p} ."),
        ("A vaccine was tried on {n} mice .", "Doctors gave {n} mice a serum against the fever ."),
        ("Chemist {w} will publish on {d} .", "A paper about the new salt , by {w} , is due on {d} ."),
        ("A probe of the {o} sent {m} pictures .", "The {o} received {m} images from its satellite ."),
        ("Bees near {p} dance in a code , a study says .", "Insects of {p} tell the way by steps , researchers hold ."),
        ("The prize of {n} crowns goes to {w} .", "For a theory of heat {w} is honoured with {n} crowns ."),
    ),
    "culture": (
        ("The theatre of {p} staged a comedy on {d} .", "Laughter filled the playhouse in {p} on {d} ."),
        ("Singer {w} was called back {m} times .", "After the aria came {m} rounds of applause for {w} ."),
        ("A painting was sold for {n} crowns .", "At auction the canvas brought {n} crowns ."),
        ("The {o} lends {m} statues to the museum .", "On show are {m} figures of stone from the {o} ."),
        ("Author {w} finished a novel of {n} pages .", "{n} pages long is the book that {w} has written ."),
        ("The film festival in {p} begins on {d} .", "Cinemas of {p} run the new reels from {d} ."),
        ("An organ of {m} pipes was tuned by {w} .", "{w} put in order the {m} pipes of the old organ ."),
        ("The {o} bought letters of a poet .", "Verses in their maker 's hand are now kept by the {o} ."),
    ),
}
