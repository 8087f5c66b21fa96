from .curves import Curve as Curve
