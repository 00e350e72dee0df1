//! The words of the command line, as data. What they do is in the files named like them.
//!
//! Only what works is here: a word that is understood and not carried out would be believed. Secrets are variables or
//! files, because every user of a machine can read the arguments of every process; a feed's key may be an argument for
//! trials.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::demo::DemoArgs;
use super::feed_replay::ReplayArgs;
use super::marks::MarksArgs;
use super::migrate::MigrateArgs;
use super::replay::RedecideArgs;
use super::users::{Assignment, parse_assignment};

/// Trade signals in, risk-checked orders out.
#[derive(Debug, Parser)]
#[command(name = "nexus", version, disable_help_subcommand = true)]
#[command(after_help = "Without a command, nexus serves. Exit codes: 0 done, 1 refused or failed, 2 bad use.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the engine in the foreground.
    Serve(ServeArgs),
    /// Show the main job on real data: an engine of its own, 5,000 bars, the report
    Demo(DemoArgs),
    /// Decide every user's history again from the ledger and compare: exit with 1 on any difference
    Replay(RedecideArgs),
    /// Bring the ledger's schema up to date without starting an engine
    Migrate(MigrateArgs),
    /// Show the state of a running engine.
    Status(ClientArgs),
    /// Stop all new exposure at once; positions keep their stops.
    Stop(StopArgs),
    /// Allow new exposure again.
    Resume(ResumeArgs),
    /// Users and their limits.
    User(UserArgs),
    /// Feeds and who follows them.
    Feed(FeedArgs),
    /// Signals, sent as a feed.
    Signal(SignalArgs),
    /// The settings in force.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Exit with 0 when the engine is ready, else with 1; for containers.
    Healthcheck(ClientArgs),
}

#[derive(Debug, Default, Args)]
pub(crate) struct ServeArgs {
    /// Trade by the time of the marks that are pushed, not by the wall: for replays; refused in production
    #[arg(long)]
    pub(crate) sim_clock: bool,
}

/// What every command that asks an engine takes.
#[derive(Debug, Args)]
pub(crate) struct ClientArgs {
    /// The engine's address [default: http://API_HOST:API_PORT]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Print one JSON object instead of text for people
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(flatten)]
    pub(crate) scope: ScopeArgs,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Allow what shrinks a position, instead of protective exits alone
    #[arg(long, conflicts_with = "local")]
    pub(crate) reducing: bool,
    /// Close what is open, at the market
    #[arg(long, conflicts_with = "local")]
    pub(crate) flatten: bool,
    /// Leave working entries at their venues
    #[arg(long, conflicts_with = "local")]
    pub(crate) keep_open_orders: bool,
    /// Write NEXUS_DATA_DIR/HALT instead of asking the engine: needs no sign-in, no network and no running engine
    #[arg(long, conflicts_with = "url")]
    pub(crate) local: bool,
}

/// What a stop or a resume is about; everything when nothing is named.
#[derive(Debug, Default, Args)]
#[group(id = "ScopeArgs", multiple = false)]
pub(crate) struct ScopeArgs {
    /// Only what this feed signals: its name or id
    #[arg(long, value_name = "FEED")]
    pub(crate) feed: Option<String>,
    /// Only what trades this symbol
    #[arg(long, value_name = "SYMBOL")]
    pub(crate) symbol: Option<String>,
    /// Only what trades at this venue
    #[arg(long, value_name = "VENUE")]
    pub(crate) venue: Option<String>,
    /// Only what this user trades: a name or id
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,
}

impl ScopeArgs {
    /// The kind and the name of what was named.
    pub(crate) fn named(&self) -> Option<(&'static str, &str)> {
        let kinds = [("feed", &self.feed), ("symbol", &self.symbol), ("venue", &self.venue), ("user", &self.user)];
        kinds.into_iter().find_map(|(kind, name)| Some((kind, name.as_deref()?)))
    }
}

#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(flatten)]
    pub(crate) scope: ScopeArgs,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct UserArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(subcommand)]
    pub(crate) command: UserCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Make a user
    Add(AddUserArgs),
    /// List all users
    List,
    /// Show a user and the risk of the day
    Show {
        /// A user's name or id
        user: String,
    },
    /// Refuse this user's entries from now on; open positions keep their stops
    Disable {
        /// A user's name or id
        user: String,
    },
    /// Allow this user's entries again
    Enable {
        /// A user's name or id
        user: String,
    },
    /// Show a user's limits, or tighten them
    #[command(after_help = "Example: nexus user limits ann max_daily_loss=5.00 timeframes=3H=1,6H=1")]
    Limits {
        /// A user's name or id
        user: String,
        /// What to change; limits go up to the ceilings of the engine and no further
        #[arg(value_name = "NAME=VALUE", value_parser = parse_assignment)]
        changes: Vec<Assignment>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AddUserArgs {
    /// A unique name
    pub(crate) username: String,
    /// What the account begins with; required for a user
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) equity: Option<String>,
    /// The currency of the account [default: USD]
    #[arg(long, value_name = "CODE")]
    pub(crate) currency: Option<String>,
    /// What the user may do
    #[arg(long, value_enum, default_value_t = RoleArg::User)]
    pub(crate) role: RoleArg,
    /// A file that holds the password, or - for stdin; without it one is made up and shown once
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum RoleArg {
    /// Sees their own
    User,
    /// Sees and changes everything
    Admin,
}

impl RoleArg {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct FeedArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(subcommand)]
    pub(crate) command: FeedCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FeedCommand {
    /// Make a feed; its key is shown once
    Add {
        /// A unique name
        name: String,
        /// The symbols whose prices it may push; all when absent
        #[arg(long, value_delimiter = ',', value_name = "SYMBOL,…")]
        symbols: Vec<String>,
    },
    /// List all feeds
    List,
    /// End a feed: its key is dead, its subscriptions are gone
    Remove {
        /// A feed's name or id
        feed: String,
    },
    /// Replace a feed's key and webhook secret; the new ones are shown once
    Rotate {
        /// A feed's name or id
        feed: String,
    },
    /// Replay bars of the past through an engine with a simulated clock, and report what became of them
    Replay(Box<ReplayArgs>),
    /// Push marks, as a feed
    Marks(MarksArgs),
    /// Make a user follow a feed
    Subscribe {
        /// A feed's name or id
        feed: String,
        /// A user's name or id
        user: String,
    },
    /// Make a user stop following a feed
    Unsubscribe {
        /// A feed's name or id
        feed: String,
        /// A user's name or id
        user: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SignalArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(subcommand)]
    pub(crate) command: SignalCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SignalCommand {
    /// Send a signal; done (0) when it is decided, whether it is accepted or not
    #[command(after_help = "Either --file or the fields of one signal.")]
    Send(Box<SendArgs>),
    /// Ask how a signal would be decided now, and what each limit would have left; changes nothing
    #[command(after_help = "Either --file or the fields of one signal. Its id does not matter and is not used up.")]
    Check(Box<SendArgs>),
}

#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// The feed's key
    #[arg(long, env = "NEXUS_FEED_KEY", hide_env_values = true, value_name = "KEY")]
    pub(crate) api_key: Option<String>,
    /// One signal or an array of them as JSON, or one signal a line, or - for stdin
    #[arg(long, value_name = "FILE", conflicts_with = "SignalFields")]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) fields: SignalFields,
}

#[derive(Debug, Default, Args)]
#[group(id = "SignalFields", multiple = true)]
pub(crate) struct SignalFields {
    /// What the feed calls it; the same id is never decided twice [default: a new one]
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// What to trade, as in EURUSD
    #[arg(long)]
    pub(crate) symbol: Option<String>,
    /// buy or sell
    #[arg(long)]
    pub(crate) side: Option<String>,
    /// The period it was computed from, as in 3H
    #[arg(long)]
    pub(crate) timeframe: Option<String>,
    /// market or limit [default: market]
    #[arg(long, value_name = "KIND")]
    pub(crate) order_type: Option<String>,
    /// Where to get in; required for a limit order
    #[arg(long, value_name = "PRICE")]
    pub(crate) entry_price: Option<String>,
    /// Where the trade is given up
    #[arg(long, value_name = "PRICE")]
    pub(crate) stop_loss: Option<String>,
    /// Where the trade is won
    #[arg(long, value_name = "PRICE")]
    pub(crate) take_profit: Option<String>,
    /// When it was made, as in 2026-11-24T02:00:00Z [default: on arrival]
    #[arg(long, value_name = "TIME")]
    pub(crate) issued_at: Option<String>,
    /// The stop goes to the entry price at this profit, in multiples of the risk
    #[arg(long, value_name = "R")]
    pub(crate) breakeven_at_r: Option<String>,
    /// The stop follows the market at this distance
    #[arg(long, value_name = "PRICE")]
    pub(crate) trail_distance: Option<String>,
    /// It follows from this profit on, in multiples of the risk
    #[arg(long, value_name = "R", requires = "trail_distance")]
    pub(crate) trail_after_r: Option<String>,
    /// The position is closed when it is this old
    #[arg(long, value_name = "MINUTES")]
    pub(crate) max_hold_minutes: Option<u32>,
    /// Only this subscriber, by id
    #[arg(long, value_name = "ID")]
    pub(crate) user_id: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every setting with its value and where it came from; secrets are masked
    Show(ConfigArgs),
    /// Check the settings: exit with 0, or with 2 and everything that is wrong
    Check(ConfigArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Print one JSON object instead of text for people
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("nexus").chain(line.split_whitespace()))
    }

    #[test]
    fn the_words_of_the_command_line_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn nothing_at_all_serves() {
        assert!(parse("").expect("good use").command.is_none());
    }

    #[test]
    fn good_use_is_understood() {
        for line in [
            "serve",
            "serve --sim-clock",
            "demo --exit --json --users 3",
            "replay --user ann --json",
            "status --json --url http://127.0.0.1:9000",
            "stop --reason drill",
            "stop --local --reason drill --json",
            "stop --symbol EURUSD --reducing --keep-open-orders",
            "stop --flatten --reason drill",
            "stop --local --user 00000000-0000-0000-0000-000000000001",
            "resume --feed breakout",
            "resume",
            "user add ann --equity 500",
            "user list --json",
            "user --json show ann",
            "user limits ann",
            "user limits ann max_daily_loss=5.00 timeframes=3H=1,6H=1",
            "feed add breakout --symbols EURUSD,GBPUSD",
            "feed subscribe breakout ann",
            "feed replay x.csv --users 3 --speed 50 --json --html x.html",
            "feed replay --from-stdin",
            "feed marks --api-key nxf_1 --file -",
            "feed marks --api-key nxf_1 --symbol EURUSD --bid 1.1 --ask 1.2",
            "signal send --api-key nxf_1 --file -",
            "signal send --symbol EURUSD --side buy --timeframe 3H --stop-loss 1.083 --take-profit 1.089",
            "signal check --api-key nxf_1 --file x.json",
            "config show --json",
            "config check",
            "healthcheck --json",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn bad_use_ends_with_two() {
        for line in [
            "fly",
            "serve --json",
            "stop --flatten --local",
            "stop --local --url http://127.0.0.1:1",
            "stop --symbol EURUSD --user ann",
            "stop --local --reducing",
            "user",
            "user add",
            "user add ann --role god",
            "user limits ann max_daily_loss",
            "user limits ann colour=red",
            "feed replay",
            "feed replay x.csv --from-stdin",
            "feed replay x.csv --speed fast",
            "feed marks --file x --symbol EURUSD",
            "signal send --file x --symbol EURUSD",
            "signal send --trail-after-r 1",
            "config",
            "config show --url http://127.0.0.1:1",
        ] {
            let error = parse(line).err().unwrap_or_else(|| panic!("{line} was understood"));
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn symbols_are_separated_by_commas() {
        let Some(Command::Feed(args)) = parse("feed add x --symbols A,B").expect("good use").command else {
            panic!("not a feed command");
        };
        assert!(matches!(args.command, FeedCommand::Add { symbols, .. } if symbols == ["A", "B"]));
    }
}
