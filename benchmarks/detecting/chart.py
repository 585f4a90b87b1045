"""The chart."""


def draw(found):
    return ""
