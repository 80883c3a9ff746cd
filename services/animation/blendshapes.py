"""The names of the face's units: Apple ARKit's 52, in the alphabetical order that the portrait packs use too."""

PAIRS = (
    "browDown",
    "browOuterUp",
    "cheekSquint",
    "eyeBlink",
    "eyeLookDown",
    "eyeLookIn",
    "eyeLookOut",
    "eyeLookUp",
    "eyeSquint",
    "eyeWide",
    "mouthDimple",
    "mouthFrown",
    "mouthLowerDown",
    "mouthPress",
    "mouthSmile",
    "mouthStretch",
    "mouthUpperUp",
    "noseSneer",
)
SINGLES = (
    "browInnerUp",
    "cheekPuff",
    "jawForward",
    "jawLeft",
    "jawOpen",
    "jawRight",
    "mouthClose",
    "mouthFunnel",
    "mouthLeft",
    "mouthPucker",
    "mouthRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    "tongueOut",
)
BLENDSHAPES: tuple[str, ...] = tuple(sorted([*SINGLES, *(name + side for name in PAIRS for side in ("Left", "Right"))]))
INDEX = {name: index for index, name in enumerate(BLENDSHAPES)}
