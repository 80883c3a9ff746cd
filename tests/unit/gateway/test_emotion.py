"""The mood of a clause, on sentences that such a conversation is made of."""

import pytest

from gateway.emotion import PHRASES, Emotion, Expression, express

TABLE = {
    Emotion.NEUTRAL: [
        "The capital of France is Paris.",
        "World War II ended in 1945.",
        "World War I killed millions of people.",
        "Cancer is a disease.",
        "Anger is an emotion, and so is fear.",
        "Sharks are dangerous animals.",
        "The gross domestic product grew.",
        "It takes about five minutes to boil an egg.",
        "You can find more information on the website.",
        "Make sure you save it.",
        "Please share the file with a friend.",
        "Yes, you can kill the process with Ctrl+C.",
        "Thanks to Einstein, we know that.",
        "What can I do for you?",
        "Are you angry?",
        "I'm not angry at all.",
        "I am not afraid of spiders.",
        "To be honest, I don't know.",
        "It is so.",
        "1. Open the door",
        "",
        "…",
        "好的。",
    ],
    Emotion.HAPPY: [
        "Congratulations on your new job!",
        "I am so happy for you!",
        "Sure, I can help with that.",
        "Hello! How can I help you today?",
        "Don't worry, everything will be fine.",
        "What a lovely day!",
        "I'd love to!",
        "That is a great question.",
        "You did a marvelous job and everybody admires you.",
        "See you soon 😊",
    ],
    Emotion.SAD: [
        "I'm sorry, I can't help with that.",
        "Unfortunately, your dog has passed away.",
        "I’m afraid I don’t know.",
        "My best friend died last year.",
        "That's terrible news.",
        "I am not happy about it.",
        "You have lost everything and suffer badly.",
        "😢",
    ],
    Emotion.ANGRY: [
        "How dare you speak to me like that!",
        "I hate this.",
        "This is really annoying!",
        "That is unacceptable.",
    ],
    Emotion.SURPRISED: [
        "Wow, that is amazing!",
        "Really?!",
        "Really?",
        "I can't believe it!",
        "Guess what, we won!",
        "Surprisingly, the sun is white.",
    ],
    Emotion.FEARFUL: [
        "I'm scared of the dark.",
        "Be careful, the stove is hot!",
        "I'm a bit worried about the results.",
        "Oh no, the server is down!",
    ],
    Emotion.DISGUSTED: ["That is disgusting.", "Yuck, this milk is rotten!", "Your kitchen is filthy."],
}


@pytest.mark.parametrize(("emotion", "clause"), [(emotion, clause) for emotion in TABLE for clause in TABLE[emotion]])
def test_mood(emotion: Emotion, clause: str) -> None:
    found = express(clause)
    assert found.emotion is emotion
    if emotion is Emotion.NEUTRAL:
        assert found == Expression()
    else:
        assert 0.3 < found.intensity <= 1


@pytest.mark.parametrize(
    ("weaker", "stronger"),
    [
        ("I'm a bit worried.", "I'm very worried."),
        ("I'm happy for you.", "I'm happy for you!"),
        ("You are angry.", "You are really angry."),
        ("What a lovely day!", "Wow, what a surprise!"),
    ],
)
def test_how_strongly(weaker: str, stronger: str) -> None:
    assert express(weaker).intensity < express(stronger).intensity


def test_cues_are_found_as_they_are_written() -> None:
    """A phrase that the tokens of a clause cannot spell would never be found."""
    loud = {" ".join(phrase): cue for phrase, cue in PHRASES.items() if cue[1] > 0.5}
    assert {phrase for phrase, (emotion, _) in loud.items() if express(phrase).emotion is not emotion} == set()


def test_emotions_are_those_of_the_wire() -> None:
    from talkmesh.audio.v1 import speech_pb2

    assert {f"EMOTION_{emotion.name}" for emotion in Emotion} == set(speech_pb2.Emotion.keys()) - {
        "EMOTION_UNSPECIFIED"
    }
