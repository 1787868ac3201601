// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {LedgerTypes} from "../src/LedgerTypes.sol";
import {RecipeRegistry} from "../src/RecipeRegistry.sol";
import {RoyaltyPool} from "../src/RoyaltyPool.sol";
import {Institutions} from "./kit/Institutions.sol";
import {MoodyToken} from "./kit/OddTokens.sol";

abstract contract Publishing is Institutions {
    bytes32 internal constant CONTENT = keccak256("wheel");

    function _new(uint32 parent, uint16 forkBps) internal view returns (RecipeRegistry.NewVersion memory made) {
        made = RecipeRegistry.NewVersion(CONTENT, parent, 500, 200, forkBps, new RecipeRegistry.Share[](1));
        made.authors[0] = RecipeRegistry.Share(author, 10_000);
    }

    function _pool(uint32 id) internal view returns (RoyaltyPool) {
        (address payout,) = ledger.payee(recipes.versionOf(id).payee);
        return RoyaltyPool(payout);
    }
}

contract PublishTest is Publishing {
    function test_aVersionIsOnRecord() public {
        RecipeRegistry.NewVersion memory made = _new(0, 1000);

        vm.expectEmit();
        emit RecipeRegistry.VersionPublished(recipe + 1, CONTENT, AUTHOR_PAYOUT, 0, ledger.payeeCount());
        vm.prank(AUTHOR_PAYOUT);
        uint32 id = recipes.publish(made);

        RecipeRegistry.Version memory version = recipes.versionOf(id);
        (uint32 payee, uint16 royaltyBps, uint16 verifierBps, bool registered) = ledger.recipe(id);
        vm.assertEq(version.content, CONTENT);
        vm.assertEq(version.publisher, AUTHOR_PAYOUT);
        vm.assertEq(version.payee, payee);
        vm.assertEq(version.authors[0].payee, author);
        vm.assertTrue(registered && royaltyBps == 500 && verifierBps == 200 && version.forkBps == 1000, "terms");
    }

    function test_publishingAgainChangesNoVersion() public {
        uint32 first = recipes.publish(_new(0, 1000));
        bytes32 before = keccak256(abi.encode(recipes.versionOf(first)));

        uint32 second = recipes.publish(_new(first, 0));

        vm.assertEq(second, first + 1);
        vm.assertEq(keccak256(abi.encode(recipes.versionOf(first))), before);
    }

    function test_aVersionHasContentAndARealParent() public {
        RecipeRegistry.NewVersion memory made = _new(0, 0);
        made.content = 0;
        vm.expectRevert(RecipeRegistry.NoContent.selector);
        recipes.publish(made);
        made = _new(recipe, 0); // known to the Ledger only
        vm.expectRevert(abi.encodeWithSelector(RecipeRegistry.UnknownVersion.selector, recipe));
        recipes.publish(made);
    }

    function test_ratesAreCapped() public {
        RecipeRegistry.NewVersion memory made = _new(0, 5001);
        vm.expectRevert(abi.encodeWithSelector(RecipeRegistry.RateTooHigh.selector, 5001, 5000));
        recipes.publish(made);
        (made.forkBps, made.royaltyBps) = (5000, 501);
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.RateTooHigh.selector, 501, 500));
        recipes.publish(made);
        (made.royaltyBps, made.verifierBps) = (500, 2001);
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.RateTooHigh.selector, 2001, 2000));
        recipes.publish(made);
        made.verifierBps = 2000;
        recipes.publish(made);
    }

    function test_oneToTenAuthorsShareAll() public {
        RecipeRegistry.NewVersion memory made = _new(0, 0);
        made.authors = new RecipeRegistry.Share[](0);
        vm.expectRevert(abi.encodeWithSelector(RecipeRegistry.NumberOfAuthors.selector, 0));
        recipes.publish(made);
        made.authors = _shares(11);
        vm.expectRevert(abi.encodeWithSelector(RecipeRegistry.NumberOfAuthors.selector, 11));
        recipes.publish(made);
        made.authors = _shares(10);
        made.authors[9].bps -= 1;
        vm.expectRevert(abi.encodeWithSelector(RecipeRegistry.SharesDontSum.selector, 9999));
        recipes.publish(made);
        made.authors[9].bps += 1;
        recipes.publish(made);
    }

    function test_authorsAreRealPayees() public {
        RecipeRegistry.NewVersion memory made = _new(0, 0);
        made.authors[0].payee = ledger.payeeCount(); // what the version's own payee would be

        vm.expectRevert(abi.encodeWithSelector(RecipeRegistry.UnknownPayee.selector, made.authors[0].payee));
        recipes.publish(made);
    }

    function test_roundingIsInTheFirstAuthorsFavour() public {
        RecipeRegistry.NewVersion memory made = _new(0, 0);
        made.authors = _shares(10);
        uint32 id = recipes.publish(made);

        LedgerTypes.Award[] memory awards = recipes.divide(id, 19);

        vm.assertEq(awards[0].amount, 10);
        vm.assertEq(awards[9].amount, 1);
        vm.assertEq(recipes.divide(id, 0)[0].amount, 0);
    }

    function testFuzz_thePartsSumToTheAmount(uint96 amount, uint256 dice, uint16 forkBps) public {
        uint32 parent = recipes.publish(_new(0, uint16(bound(forkBps, 0, 5000))));
        RecipeRegistry.NewVersion memory made = _new(parent, 0);
        made.authors = _shares(1 + dice % 10);
        _shuffle(made.authors, dice);
        uint32 id = recipes.publish(made);

        LedgerTypes.Award[] memory awards = recipes.divide(id, amount);

        uint256 sum = 0;
        uint256 left = amount - uint256(amount) * bound(forkBps, 0, 5000) / 10_000;
        for (uint256 i = 0; i < awards.length; ++i) {
            sum += awards[i].amount;
            bool toParent = i == made.authors.length;
            uint256 part = toParent ? amount - left : left * made.authors[i].bps / 10_000;
            vm.assertLe(awards[i].amount, part + 9, "no more than its part");
            vm.assertGe(awards[i].amount, part, "no less than its part");
        }
        vm.assertEq(sum, amount);
    }

    /// Moves parts from one author to another.
    function _shuffle(RecipeRegistry.Share[] memory shares, uint256 dice) private pure {
        for (uint256 i = 1; i < shares.length; ++i) {
            uint16 moved = uint16((dice >> (16 * i)) % (shares[i].bps + 1));
            (shares[i].bps, shares[i - 1].bps) = (shares[i].bps - moved, shares[i - 1].bps + moved);
        }
    }

    function _shares(uint256 count) private returns (RecipeRegistry.Share[] memory shares) {
        shares = new RecipeRegistry.Share[](count);
        for (uint256 i = 0; i < count; ++i) {
            shares[i] = RecipeRegistry.Share(ledger.addPayee(address(uint160(0xA0 + i))), uint16(10_000 / count));
        }
        shares[0].bps += uint16(10_000 % count);
    }
}

contract RoyaltyPoolTest is Publishing {
    function setUp() public override {
        super.setUp();
        _fund(RENTER_SECRET, 100e6);
    }

    function test_anybodyDistributesARoyalty() public {
        uint32 id = recipes.publish(_new(0, 0));
        _pay(id, 7, 10e6);

        vm.prank(address(0xA11));
        _pool(id).distribute();

        vm.assertEq(_credit(author), 0.5e6);
        _assertEmpty(id);
    }

    function test_aForkPaysItsParentOneLevelUp() public {
        uint32 first = recipes.publish(_new(0, 1000));
        uint32 fork = recipes.publish(_fork(first, 2000));
        uint32 ofFork = recipes.publish(_fork(fork, 0));
        _pay(ofFork, 7, 10e6); // royalty 500,000

        _pool(ofFork).distribute();
        vm.assertEq(_credit(recipes.versionOf(fork).payee), 100_000);
        vm.assertEq(_credit(recipes.versionOf(first).payee), 0);
        _pool(fork).distribute();
        vm.assertEq(_credit(recipes.versionOf(first).payee), 10_000);
        _pool(first).distribute();

        vm.assertEq(_credit(verifier), 0.2e6 + 400_000 + 90_000);
        vm.assertEq(_credit(author), 10_000);
    }

    function test_aFreeRecipeHasNothingToDistribute() public {
        RecipeRegistry.NewVersion memory made = _new(recipes.publish(_new(0, 5000)), 0);
        made.royaltyBps = 0;
        uint32 id = recipes.publish(made);
        _pay(id, 7, 10e6);

        _pool(id).distribute();

        vm.assertEq(_credit(author), 0);
    }

    function test_whoCollectsThePoolsCreditFirstChangesNothing() public {
        uint32 id = recipes.publish(_new(0, 0));
        _pay(id, 7, 10e6);
        ledger.collect(recipes.versionOf(id).payee);

        _pool(id).distribute();

        vm.assertEq(_credit(author), 0.5e6);
        _assertEmpty(id);
    }

    function test_donationsToThePoolAreDistributed() public {
        uint32 id = recipes.publish(_new(0, 0));
        token.mint(address(_pool(id)), 3);

        _pool(id).distribute();
        _pool(id).distribute();

        vm.assertEq(_credit(author), 3);
        _assertEmpty(id);
    }

    function test_theCodeThatPoolsCloneDistributesNothing() public {
        RoyaltyPool code = RoyaltyPool(recipes.pool());
        token.mint(address(code), 1e6);

        vm.expectRevert();
        code.distribute();
    }

    function test_aTokenThatKeepsAFeeLeavesTheCreditInTheLedger() public {
        MoodyToken odd = new MoodyToken();
        _deploy(odd);
        recipes = new RecipeRegistry(ledger);
        author = ledger.addPayee(AUTHOR_PAYOUT);
        uint32 id = recipes.publish(_new(0, 0));
        odd.mint(address(this), 100);
        odd.approve(address(ledger), 100);
        LedgerTypes.Award[] memory awards = new LedgerTypes.Award[](1);
        awards[0] = LedgerTypes.Award(address(0), recipes.versionOf(id).payee, 100);
        ledger.award(awards);
        odd.setFee(true);
        RoyaltyPool pool = _pool(id);

        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.TransferFellShort.selector, 90, 81));
        pool.distribute();
        vm.assertEq(_credit(recipes.versionOf(id).payee), 100);
    }

    function _fork(uint32 parent, uint16 forkBps) private view returns (RecipeRegistry.NewVersion memory made) {
        made = _new(parent, forkBps);
        made.authors[0].payee = verifier;
    }

    function _pay(uint32 id, uint32 nonce, uint96 amount) private {
        _settle(_statement(RENTER_SECRET, nonce, FAR, _line(provider, verifier, id, amount)));
    }

    function _assertEmpty(uint32 id) private view {
        vm.assertEq(token.balanceOf(address(_pool(id))), 0);
        vm.assertEq(_credit(recipes.versionOf(id).payee), 0);
    }
}
