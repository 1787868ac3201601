// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";

import {Ledger} from "./Ledger.sol";
import {LedgerTypes} from "./LedgerTypes.sol";
import {RoyaltyPool} from "./RoyaltyPool.sol";

/// @title Versions of recipes, each for ever: what it is, who shares its royalty, which version it was forked from.
/// @notice A version's royalty is credited in the Ledger to a payee of its own, whose pool divides it: the part that the
/// parent asks of its forks goes to the parent's pool, one level up, and is divided there like the parent's own royalty;
/// the rest goes to the authors. Nobody can change or stop any of it.
contract RecipeRegistry {
    struct Share {
        uint32 payee;
        uint16 bps;
    }

    /// What an author publishes.
    struct NewVersion {
        bytes32 content; // SHA-256 of the recipe's wheel
        uint32 parent; // recipe id of the version it was forked from, or 0
        uint16 royaltyBps; // of each job that uses it
        uint16 verifierBps;
        uint16 forkBps; // of a fork's royalty, for this version
        Share[] authors; // bps sum to 10,000
    }

    struct Version {
        bytes32 content;
        // slot 1
        address publisher;
        uint32 parent;
        uint16 forkBps;
        uint32 payee; // what the royalty is credited to
        // slot 2
        Share[] authors;
    }

    uint256 public constant MAX_AUTHORS = 10;
    uint256 public constant MAX_FORK_BPS = 5000;
    uint256 private constant BPS = 10_000;

    Ledger public immutable ledger;
    address public immutable pool;

    mapping(uint32 recipe => Version) private _versions;

    event VersionPublished(
        uint32 indexed recipe, bytes32 indexed content, address indexed publisher, uint32 parent, uint32 payee
    );

    error NoContent();
    error UnknownVersion(uint32 recipe);
    error UnknownPayee(uint32 payee);
    error NumberOfAuthors(uint256 given);
    error SharesDontSum(uint256 bps);
    error RateTooHigh(uint256 bps, uint256 most);

    constructor(Ledger ledger_) {
        ledger = ledger_;
        pool = address(new RoyaltyPool(this, ledger_));
    }

    /// @notice Publish a version; gives the Ledger's recipe id. Who published first under which content is on record; that
    /// it was theirs to publish is for people to judge.
    function publish(NewVersion calldata made) external returns (uint32 recipe) {
        if (made.content == 0) revert NoContent();
        if (made.parent != 0 && _versions[made.parent].content == 0) revert UnknownVersion(made.parent);
        if (made.forkBps > MAX_FORK_BPS) revert RateTooHigh(made.forkBps, MAX_FORK_BPS);
        _requireShares(made.authors);
        // The pool knows its recipe by the id that the Ledger gives next.
        recipe = ledger.recipeCount() + 1;
        // The Ledger calls nobody back while it adds a payee or a recipe.
        // slither-disable-next-line reentrancy-no-eth
        uint32 payee = ledger.addPayee(Clones.cloneWithImmutableArgs(pool, abi.encode(recipe)));
        ledger.addRecipe(payee, made.royaltyBps, made.verifierBps);
        Version storage version = _versions[recipe];
        (version.content, version.publisher, version.parent) = (made.content, msg.sender, made.parent);
        (version.forkBps, version.payee) = (made.forkBps, payee);
        for (uint256 i = 0; i < made.authors.length; ++i) {
            version.authors.push(made.authors[i]);
        }
        emit VersionPublished(recipe, made.content, msg.sender, made.parent, payee);
    }

    function versionOf(uint32 recipe) external view returns (Version memory) {
        return _versions[recipe];
    }

    /// @notice How a version's royalty is divided; the parts sum to the amount. Rounding is in the first author's favour.
    function divide(uint32 recipe, uint96 amount) external view returns (LedgerTypes.Award[] memory awards) {
        Version storage version = _versions[recipe];
        Version storage parent = _versions[version.parent];
        uint256 count = version.authors.length;
        uint256 toParent = uint256(amount) * parent.forkBps / BPS; // 0 where there is no parent
        awards = new LedgerTypes.Award[](toParent == 0 ? count : count + 1);
        if (toParent != 0) awards[count] = LedgerTypes.Award(address(0), parent.payee, uint96(toParent));
        uint256 left = amount - toParent;
        uint256 toFirst = left;
        for (uint256 i = 1; i < count; ++i) {
            Share memory share = version.authors[i];
            uint256 part = left * share.bps / BPS;
            toFirst -= part;
            awards[i] = LedgerTypes.Award(address(0), share.payee, uint96(part));
        }
        awards[0] = LedgerTypes.Award(address(0), version.authors[0].payee, uint96(toFirst));
    }

    function _requireShares(Share[] calldata authors) private view {
        if (authors.length == 0 || authors.length > MAX_AUTHORS) revert NumberOfAuthors(authors.length);
        uint256 sum = 0;
        for (uint256 i = 0; i < authors.length; ++i) {
            (address payout,) = ledger.payee(authors[i].payee);
            if (payout == address(0)) revert UnknownPayee(authors[i].payee);
            sum += authors[i].bps;
        }
        if (sum != BPS) revert SharesDontSum(sum);
    }
}
