"""What Blockstore is made of and the commands it installs; settings of tools: pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="blockstore",
    version="0.2.0",
    description="A key-value store on Bitcoin, served as DNS",
    long_description=Path(__file__).with_name("README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    author="The Blockstore authors",
    python_requires=">=3.11,<3.15",
    packages=find_packages(include=["indexer*", "zonefiles*", "resolver*"]),
    package_data={"resolver.sandbox": ["demo/*"]},
    data_files=[
        ("share/man/man1", ["resolver/man/blockstore-cli.1"]),
        ("share/man/man5", ["resolver/man/blockstore.toml.5"]),
        ("share/man/man8", ["resolver/man/blockstored.8"]),
    ],
    entry_points={
        "console_scripts": [
            "blockstored = resolver.blockstored:main",
            "blockstore-cli = resolver.blockstore_cli:main",
        ]
    },
    install_requires=[
        "twisted[tls]>=26.4",
        "h2>=4.4,<5",
        "uvloop>=0.21; sys_platform != 'win32'",
        "dnslib>=0.9.26",
        "dnspython>=2.7",
        "python-bitcoinrpc==1.0",
        "kademlia==2.2.3",
        # The same code twice: the second has wheels for newer Pythons, under another module name.
        "plyvel>=1.5.1; python_version < '3.13'",
        "plyvel-next>=2.1.2; python_version >= '3.13'",
        "embit>=0.8.0",
        "cryptography>=43",
        "siphash24>=1.9",
        "tqdm>=4.67",
        "click>=8.1",
        "icalendar>=7",
        "idna>=3.7",
        "pydantic>=2.10",
    ],
    extras_require={
        "test": [
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "jsonschema>=4.23",
            "schemathesis>=4.10",
            "pyzmq>=25",
            "bdkpython>=2; python_version < '3.14'",  # has no wheels for newer ones
        ],
        "zmq": ["pyzmq>=25"],
        "lint": ["ruff>=0.9", "mypy>=1.14"],
    },
    classifiers=[
        "License :: OSI Approved :: MIT License",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Internet :: Name Service (DNS)",
    ],
)
