"""What the words of tool names and descriptions say: verbs by category, money, and words that may be either.

Rules kept here:

- The lists come from how interfaces name their operations, not from particular servers: a word stands here because it
  means the same wherever it is used.
- A word that is as often a noun as a verb (`order`, `test`, `report`) stands in `EITHER` too, and is a verb only where
  a verb has to be.
- Where a word is left out, what it does is unknown, and unknown is not harmless.
"""

from __future__ import annotations

from typing import Final

from .profile import Category


def word_set(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


def _verbs(category: Category, text: str) -> dict[str, Category]:
    return dict.fromkeys(text.split(), category)


VERBS: Final[dict[str, Category]] = {
    **_verbs(
        "read",
        """
        access aggregate analyse analyze answer ask assess audit autocomplete benchmark blame browse calc calculate
        can capture cat categorise categorize check choose classify collect compare compute concatenate consult
        contrast convert correlate count crawl critique decode decompile decrypt deduce dereference describe detect
        determine diagnose diff differentiate disassemble discover display download dump echo encode enquire
        enumerate estimate evaluate examine exists explain explore export extract factor fetch filter find forecast
        gather geocode get give glance glob grep group guess has hash head highlight identify infer inquire inspect
        integrate interpret introduce introspect investigate is learn lint list listen locate look lookup ls match
        measure monitor narrow observe obtain ocr outline paginate parse peek pick ping plan poll predict present
        preview print probe profile provide ps pwd query quote rank read reason recall recommend reflect report
        rerank research resolve retrieve return reveal review sample scan score scrape screenshot search see show
        simulate snapshot solve spellcheck stat status suggest sum summarise summarize supply survey tail tally
        think tokenize trace transcribe translate traverse triage understand validate verify view visualise
        visualize wait walk watch weigh what when where which who whoami why
        """,
    ),
    **_verbs(
        "write",
        """
        accept ack acknowledge activate adapt add adjust advance align allocate allow alter amend animate annotate
        announce append apply approve archive arm arrange assign associate attach attest augment authenticate
        authorise authorize backup begin bind block bookmark boost brighten broadcast bump cache calibrate change
        checkin checkout click clip clone close combine comment commit compact complete compose compress configure
        confirm connect consolidate contact contribute convey copy correct create crop crosspost customise customize
        cut deactivate decline decompress decrease defer define delegate deliver demote deny detach dial dim disable
        disarm disassociate disconnect dismiss downgrade downvote draft drag draw duplicate edit elevate elicit
        email embed emulate enable encrypt endorse engage enlarge enqueue enrol enroll enter escalate establish
        extend favorite favourite feed fill finalise finalize finish fix flag focus follow forge fork format forward
        freeze generate grant handle hide host hover import improve inactivate include increase increment index
        ingest init initialise initialize inject insert instantiate invite join label leave like link load lock log
        login logout make manage map mark memorise memorize merge message migrate minimize mix mock modify mount
        move mutate mute navigate nominate normalise normalize notify offer onboard open optimise optimize organise
        organize override paste patch pause perform persist pin place play populate post postpone prepare press
        prioritise prioritize process produce promote propose protect provision publish pull push put queue raise
        rate react reactivate rearrange reassign rebase reblog recategorize reconcile reconfigure record recover
        recreate redirect redo refresh regenerate register reindex reject relabel relay release relocate remap
        remember remind remix rename renew reopen reorder reorganize repair replicate reply repost request
        reschedule reserve resize respond restore restrict resubmit resume retag retweet revise rewrite ring rollout
        rotate route save scaffold scale schedule scroll seal seed select send set setup share shift ship shrink
        sign signup silence skip sleep snooze sort speak split stage star start stash stitch stop store stream
        submit subscribe supersede suspend switch sync synchronise synchronize synthesize tag tap tile toggle touch
        track train transform transition transmit trim turn tweak tweet type unarchive unassign unban unblock
        undelete undo unfavorite unflag unfollow unhide unlike unlink unlock unmark unmute unpin unschedule unshare
        unstar unsubscribe untag untrash unzip update upgrade upload upscale upsert upvote vote warm withhold wrap
        write zip
        """,
    ),
    **_verbs(
        "execute",
        """
        attack automate bash boot bruteforce build call cmd compile control crack debug deploy dispatch eval exec
        execute executor exploit fire fuzz install interpreter interrupt invoke launch operate orchestrate playback
        power powershell provoke reboot rebuild redeploy reinstall relaunch repl replay rerun restart retry run
        runner sandbox script shell spawn spider ssh sudo terminal test trigger
        """,
    ),
    **_verbs(
        "destructive",
        """
        abort annihilate ban blacklist cancel clean cleanup clear deallocate deauthorize decommission deindex del
        delete deletion deprovision deregister destroy disband discard dispose drain drop dropdb empty eradicate
        erase evict expel expire expunge flush flushall flushdb forget hardreset invalidate kick kill nuke
        obliterate overwrite prune purge removal remove replace reset retire revert revoke rid rm rmdir rmi rollback
        scrub shred shutdown strip taint teardown terminate trash truncate uninstall uninvite unpublish unregister
        unset untrack vacuum void wipe zap zero
        """,
    ),
    **_verbs(
        "financial",
        """
        bid borrow bridge burn buy charge deposit disburse donate hedge invest lend liquidate mint overdraw pay
        payout prepay purchase recharge redeem redelegate refund reimburse remit repay sell short stake swap tip
        topup trade transfer undelegate unstake wire withdraw
        """,
    ),
}
"""What a verb does, in its plain form."""

EITHER: Final = word_set(
    """
    access answer archive audit backup bash benchmark bid block bookmark boost bridge build burn cache call capture
    change charge check checkout clean clip cmd comment commit complete contact control copy count crawl cut
    deletion deposit diff dim display download draft drag drain drop dump echo email embed empty engage eval
    executor exploit export extract favorite favourite feed fill filter fire fix flag flush focus forecast fork
    format forward glob group guess handle hash head hedge hide highlight host hover import index install
    interpreter invite join kick label launch leave like link lint load lock log look make manage map match merge
    message mix monitor mount move offer open outline override patch pause payout pin ping place plan play playback
    poll post power powershell present preview print process profile propose provision pull push put query queue
    quote rank rate reason rebuild record refresh refund release remix removal repair repl replay reply report
    request research reserve reset return review ring rollout route run runner sample sandbox scaffold scale scan
    schedule score screenshot script seal search seed sell set share shell shift ship short show shred sign signup
    sleep snapshot snooze sort spawn split ssh stage stake star start stash stat status stop store stream sum supply
    survey swap switch sync tag tail tap terminal test tile tip toggle touch trace track trade train transfer
    transform transition trash trigger trim turn tweet type update upgrade upload view void vote wait walk watch
    wire wrap zap zero zip
    """
)
"""Words that are as often nouns or adjectives in names: verbs only where a verb has to be."""

PAPERS: Final = word_set(
    """
    analytics artifacts availability balance balances calendar catalog catalogue categories coverage dashboard data
    datetime details diagnostics doc docs documentation events example examples faq feed forecast guide guidelines
    guides headlines health help history hours id ids info information insights instructions leaderboard limits list
    log logs metadata metrics name names news notes output outputs overview permissions prices profile progress
    quota rates readme references result results schema schemas score scores specs state statistics stats status
    summary tips traffic tree trends types usage version versions weather
    """
)
"""What is read: a name that ends in such a word, and has no verb, is of a tool that tells it."""

MONEY: Final = word_set(
    """
    btc charge charges crypto eth funds invoice invoices money payment payments payout payouts refund refunds sol
    usdc usdt withdrawal withdrawals
    """
)
"""What moves money when anything is done with it."""

TRADED: Final = word_set(
    """
    asset assets balance bill bills checkout coin coins credit credits deposit deposits dispute disputes order
    orders position positions stock stocks subscription subscriptions swap token tokens trade trades transaction
    transactions transfer transfers
    """
)
"""What moves money when anything is done with it, where the tool has to do with a market (`MARKET`)."""

MARKET: Final = word_set(
    """
    amount billing broker brokerage buy charge charged crypto currency fiat invoice invoices market merchant money
    paid payment payments paypal price prices recurring sell stock stocks stripe trade trading usd wallet wallets
    """
)

NOTICES: Final = word_set(
    """
    azure event events feed newsletter notification notifications pubsub queue sns topic topics webhook webhooks
    """
)
"""What one subscribes to without paying."""

NOT_MONEY: Final = word_set(
    """
    call calls chat conversation data domain file files issue issues lead owner ownership project repo repository
    ticket
    """
)
"""What is transferred without paying."""

IDENTIFIED: Final = word_set(
    """
    address dns entity host id ids libraries library location name names package path query ref reference references
    refs schema symbol uri url urls version
    """
)
"""What is resolved by looking it up; other things are resolved by closing them."""

CARRIERS: Final = word_set("commit confirm do execute make perform place process run submit trigger")
"""Verbs that carry out what the next word says: `execute_swap`, `run_cleanup`."""

STARTED: Final = word_set(
    """
    build builds cmd code command commands container containers execution instance instances job jobs pipeline
    pipelines process processes run runs script scripts shell terminal vm workflow workflows
    """
)

STARTING: Final = word_set("issue launch open send start submit")
"""`start_process` and `send_command` run what they are given."""

SOFT: Final = word_set(
    """
    access answer ask capture check choose evaluate give monitor plan present provide quote report return sample see
    simulate snapshot supply wait watch
    """
)
"""Verbs that read as a rule, unless the description says otherwise: `watch_topic` may save a watch."""

EVALUATED: Final = word_set(
    """
    browser code expression expressions javascript js page playwright puppeteer python script scripts
    """
)
"""What is evaluated by running it; other things (models, risks) are looked at."""

MONEY_TALK: Final = word_set(
    """
    address comment form label note notes number reason reminder reminders setting settings status tag template
    templates
    """
)
"""What is about money and moves none: `create_payment_reminder`."""

ORDERED: Final = word_set("limit market place stop submit")
"""What makes an order one of a market: `place_order`, `limit_order`."""

ELSEWHERE: Final[dict[str, tuple[frozenset[str], Category]]] = {
    "capture": (MONEY, "financial"),
    "close": (word_set("account accounts"), "destructive"),
    "drop": (word_set("drag"), "write"),
    "evaluate": (EVALUATED, "execute"),
    "move": (word_set("bin trash"), "destructive"),
    "replace": (word_set("find search"), "write"),
    "send": (word_set("transaction transactions"), "financial"),
    "transfer": (NOT_MONEY, "write"),
    **dict.fromkeys(STARTING - {"send"}, (STARTED, "execute")),
}
"""What verbs do beside certain words, where that is not what they do elsewhere."""

MAKING: Final = word_set("authenticate build create generate load make open prepare produce return start")
"""What a tool that reads may be said to do first: `get_report` generates a report."""
