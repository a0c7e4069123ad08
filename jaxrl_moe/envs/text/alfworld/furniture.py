"""What rooms of our own hold: furniture, what may lie on or in it, and what things can be done to."""

FOOD = ("Apple", "Bread", "Egg", "Lettuce", "Potato", "Tomato")
DISHES = ("Bowl", "Cup", "Mug", "Plate")
PANS = ("Pan", "Pot")
CUTLERY = ("ButterKnife", "Fork", "Knife", "Ladle", "Spatula", "Spoon")
JARS = ("PepperShaker", "SaltShaker", "WineBottle")
WASHING = ("Cloth", "SoapBar", "SoapBottle")
PAPER = ("TissueBox", "ToiletPaper")
SMALL = ("CD", "CellPhone", "CreditCard", "KeyChain", "Pen", "Pencil", "Watch")
READING = ("Book", "Newspaper", "RemoteControl")
SOFT = ("CellPhone", "CreditCard", "KeyChain", "Laptop", "Pillow", *READING)
STANDING = ("AlarmClock", "Laptop", "Statue", "Vase")

# {furniture: things that it can hold}; a part of what the package alfworld lets it hold.
HOLDS: dict[str, tuple[str, ...]] = {
    "ArmChair": SOFT,
    "BathtubBasin": ("Cloth", "DishSponge", "SoapBar"),
    "Bed": ("Book", "CellPhone", "Laptop", "Newspaper", "Pillow"),
    "Cabinet": (*DISHES, *PANS, "Candle", "DishSponge", "Ladle", *JARS, *WASHING, *PAPER, "SprayBottle"),
    "CoffeeMachine": ("Mug",),
    "CoffeeTable": (*DISHES, *STANDING, *READING, *SMALL, "TissueBox"),
    "CounterTop": (*FOOD, *DISHES, *PANS, *CUTLERY, *JARS, *WASHING, *PAPER, "Candle", "DishSponge",
                   "SprayBottle"),
    "Desk": ("Bowl", "Mug", *STANDING, *READING, *SMALL, "TissueBox"),
    "DiningTable": (*FOOD, *DISHES, *PANS, *CUTLERY, *JARS, "Book", "Newspaper", "Statue", "Vase"),
    "Drawer": ("ButterKnife", "Candle", "Cloth", "DishSponge", "Fork", "Knife", "Ladle", "SoapBar",
               "SoapBottle", "Spatula", "Spoon", "SprayBottle", *PAPER, *READING, *SMALL),
    "Dresser": (*STANDING, *READING, *SMALL, "Mug", "TissueBox"),
    "Fridge": (*FOOD, *DISHES, *PANS, "WineBottle"),
    "GarbageCan": ("Apple", "Bread", "CD", "Cloth", "DishSponge", "Egg", "Lettuce", "Newspaper",
                   "Pen", "Pencil", "Potato", "SoapBar", "SoapBottle", "SprayBottle", *PAPER, "Tomato",
                   "WineBottle"),
    "Microwave": ("Apple", "Bowl", "Bread", "Cup", "Egg", "Mug", "Plate", "Potato", "Tomato"),
    "Safe": ("CD", "CellPhone", "CreditCard", "KeyChain", "Statue", "Vase", "Watch"),
    "Shelf": ("Bowl", "Cup", "Mug", "Plate", "Pot", "AlarmClock", "Statue", "Vase", "Candle", "DishSponge",
              *JARS, *READING, *SMALL, *WASHING, *PAPER, "SprayBottle"),
    "SideTable": (*STANDING, *READING, *SMALL, "Candle", "Mug", "TissueBox", "ToiletPaper"),
    "SinkBasin": ("Apple", "Egg", "Lettuce", "Potato", "Tomato", *DISHES, *PANS, *CUTLERY, "Cloth",
                  "DishSponge", "SoapBar"),
    "Sofa": SOFT,
    "StoveBurner": PANS,
    "Toilet": ("Candle", "Cloth", "SoapBar", "SoapBottle", "SprayBottle", *PAPER)}
OPENABLE = frozenset({"Cabinet", "Drawer", "Fridge", "Microwave", "Safe"})

# {room: {furniture: least and most pieces of it}}
ROOMS: dict[str, dict[str, tuple[int, int]]] = {
    "kitchen": {"Cabinet": (2, 6), "CoffeeMachine": (1, 1), "CounterTop": (1, 3), "DiningTable": (0, 1),
                "Drawer": (1, 4), "Fridge": (1, 1), "GarbageCan": (1, 1), "Microwave": (1, 1),
                "Shelf": (0, 2), "SinkBasin": (1, 1), "StoveBurner": (1, 4)},
    "bathroom": {"BathtubBasin": (0, 1), "Cabinet": (1, 4), "CounterTop": (1, 1), "Drawer": (0, 3),
                 "GarbageCan": (1, 1), "Shelf": (0, 2), "SinkBasin": (1, 2), "Toilet": (1, 1)},
    "bedroom": {"ArmChair": (0, 1), "Bed": (1, 1), "Desk": (1, 1), "Drawer": (1, 4), "Dresser": (0, 1),
                "GarbageCan": (1, 1), "Safe": (0, 1), "Shelf": (0, 4), "SideTable": (1, 2)},
    "livingroom": {"ArmChair": (1, 2), "Cabinet": (0, 3), "CoffeeTable": (1, 1), "DiningTable": (0, 1),
                   "Drawer": (0, 4), "GarbageCan": (1, 1), "Safe": (0, 1), "Shelf": (0, 4),
                   "SideTable": (1, 2), "Sofa": (1, 1)}}
# Things that lie about in a room.
LYING: dict[str, tuple[str, ...]] = {
    "kitchen": (*FOOD, *DISHES, *PANS, *CUTLERY, *JARS, "DishSponge", "SoapBottle"),
    "bathroom": (*WASHING, *PAPER, "Candle", "DishSponge", "SprayBottle"),
    "bedroom": (*STANDING, *READING, *SMALL, "Mug", "Pillow", "TissueBox"),
    "livingroom": (*STANDING, *READING, *SMALL, "Pillow", "TissueBox")}

LAMP = "DeskLamp"
LAMP_STANDS = ("Desk", "SideTable", "Dresser")
CAN_BE = {  # {what: things that can become it}, as the package alfworld has them
    "cleanable": frozenset({"Apple", "Bowl", "ButterKnife", "Cloth", "Cup", "DishSponge", "Egg", "Fork",
                            "Knife", "Ladle", "Lettuce", "Mug", "Pan", "Plate", "Pot", "Potato", "SoapBar",
                            "Spatula", "Spoon", "Tomato"}),
    "heatable": frozenset({"Apple", "Bread", "Cup", "Egg", "Mug", "Plate", "Potato", "Tomato"}),
    "coolable": frozenset({"Apple", "Bowl", "Bread", "Cup", "Egg", "Lettuce", "Mug", "Pan", "Plate", "Pot",
                           "Potato", "Tomato", "WineBottle"}),
    "sliceable": frozenset({"Apple", "Bread", "Egg", "Lettuce", "Potato", "Tomato"})}
