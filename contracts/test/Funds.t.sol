// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {Ledger} from "../src/Ledger.sol";
import {LedgerTypes} from "../src/LedgerTypes.sol";
import {Market} from "./kit/Market.sol";
import {FalseToken, FeeToken, MoodyToken, ReenteringToken} from "./kit/OddTokens.sol";
import {ReenteringWallet, Wallet} from "./kit/Wallets.sol";

contract FundsTest is Market {
    // ---------------------------------------------------------------------------------------------- opening

    function test_openingBindsOwnerAndCoordinator() public {
        vm.expectEmit();
        emit LedgerTypes.AccountOpened(renter, OWNER, coordinator);
        _open(RENTER_SECRET);

        LedgerTypes.Account memory account = ledger.account(renter);
        vm.assertEq(account.owner, OWNER);
        vm.assertEq(account.coordinator, coordinator);
    }

    function test_nobodyOpensAKeysAccountWithoutItsSignature() public {
        bytes memory squatters = _opening(0xBAD, OWNER);
        bytes memory forAnotherOwner = _opening(RENTER_SECRET, address(0xBAD));

        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NotSignedBy.selector, renter));
        ledger.open(renter, OWNER, coordinator, squatters);
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NotSignedBy.selector, renter));
        ledger.open(renter, OWNER, coordinator, forAnotherOwner);
    }

    function test_anAccountIsOpenedOnce() public {
        _open(RENTER_SECRET);
        bytes memory again = _opening(RENTER_SECRET, address(0x2));

        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.AlreadyOpen.selector, renter, OWNER));
        ledger.open(renter, address(0x2), coordinator, again);
    }

    function test_anAccountNeedsAnOwnerAndARealCoordinator() public {
        vm.expectRevert(LedgerTypes.ZeroAddress.selector);
        ledger.open(renter, address(0), coordinator, "");
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.UnknownCoordinator.selector, 0));
        ledger.open(renter, OWNER, 0, "");
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.UnknownCoordinator.selector, coordinator + 1));
        ledger.open(renter, OWNER, coordinator + 1, "");
    }

    // --------------------------------------------------------------------------------------------- deposits

    function test_aDepositNeedsAnOpenAccount() public {
        token.mint(address(this), 1);
        token.approve(address(ledger), 1);

        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NotOpen.selector, renter));
        ledger.deposit(renter, 1);
    }

    function test_aTokenThatKeepsAFeeCreditsWhatArrives() public {
        FeeToken odd = new FeeToken();
        _deploy(odd);
        vm.prank(operator);
        ledger.addCoordinator();
        _open(RENTER_SECRET);
        odd.mint(address(this), 100e6);
        odd.approve(address(ledger), 100e6);

        ledger.deposit(renter, 100e6);

        vm.assertEq(_balance(renter), 90e6);
        vm.assertEq(odd.balanceOf(address(ledger)), 90e6);
    }

    function test_aTokenThatSaysNoCreditsNothing() public {
        FalseToken odd = new FalseToken();
        _deploy(IERC20(address(odd)));
        vm.prank(operator);
        ledger.addCoordinator();
        _open(RENTER_SECRET);

        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, odd));
        ledger.deposit(renter, 1);
    }

    function test_aTokenCannotReenter() public {
        ReenteringToken odd = new ReenteringToken();
        _deploy(odd);
        vm.prank(operator);
        ledger.addCoordinator();
        _open(RENTER_SECRET);
        odd.mint(address(this), 2);
        odd.approve(address(ledger), 2);
        bytes[4] memory calls = [
            abi.encodeCall(Ledger.deposit, (renter, 1)),
            abi.encodeCall(Ledger.collect, (0)),
            abi.encodeCall(Ledger.withdraw, (renter)),
            abi.encodeCall(Ledger.award, (new LedgerTypes.Award[](0)))
        ];

        for (uint256 i = 0; i < calls.length; ++i) {
            odd.arm(ledger, calls[i]);
            vm.expectRevert(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
            ledger.deposit(renter, 1);
        }
    }

    function test_theLedgerHoldsLessThanTheBooksCanCount() public {
        _fund(RENTER_SECRET, type(uint96).max);
        token.mint(address(this), 1);
        token.approve(address(ledger), 1);

        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.TokenTooLarge.selector, 2 ** 96));
        ledger.deposit(renter, 1);
    }

    function test_awardsReachAccountsAndPayees() public {
        _open(RENTER_SECRET);
        token.mint(address(this), 60);
        token.approve(address(ledger), 60);
        LedgerTypes.Award[] memory awards = new LedgerTypes.Award[](3);
        awards[0] = LedgerTypes.Award(renter, 0, 10);
        awards[1] = LedgerTypes.Award(address(0), provider, 20);
        awards[2] = LedgerTypes.Award(address(0), 0, 30);

        ledger.award(awards);

        vm.assertEq(_balance(renter), 10);
        vm.assertEq(_credit(provider), 20);
        vm.assertEq(_credit(0), 30);
    }

    function test_anAwardNeedsARealReceiver() public {
        token.mint(address(this), 10);
        token.approve(address(ledger), 10);
        LedgerTypes.Award[] memory awards = new LedgerTypes.Award[](1);

        awards[0] = LedgerTypes.Award(address(0), 999, 10);
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.UnknownPayee.selector, 999));
        ledger.award(awards);
        awards[0] = LedgerTypes.Award(renter, 0, 10);
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NotOpen.selector, renter));
        ledger.award(awards);
    }

    function test_anAwardIsPaidInFullOrNotAtAll() public {
        FeeToken odd = new FeeToken();
        _deploy(odd);
        odd.mint(address(this), 100);
        odd.approve(address(ledger), 100);
        LedgerTypes.Award[] memory awards = new LedgerTypes.Award[](1);
        awards[0] = LedgerTypes.Award(address(0), 0, 100);

        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.TransferFellShort.selector, 100, 90));
        ledger.award(awards);
    }

    // ------------------------------------------------------------------------------------------ withdrawals

    function test_theOwnerWithdrawsAfterADay() public {
        _fund(RENTER_SECRET, 100e6);
        vm.prank(OWNER);
        ledger.requestWithdrawal(renter, 30e6);

        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.StillLocked.selector, renter, NOW + 24 hours));
        ledger.withdraw(renter);
        vm.warp(NOW + 24 hours);
        vm.assertEq(ledger.withdraw(renter), 30e6);

        vm.assertEq(token.balanceOf(OWNER), 30e6);
        vm.assertEq(_balance(renter), 70e6);
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NothingPending.selector, renter));
        ledger.withdraw(renter);
    }

    function test_statementsSettleWhileAWithdrawalIsPendingAndItPaysWhatIsLeft() public {
        _fund(RENTER_SECRET, 100e6);
        vm.prank(OWNER);
        ledger.requestWithdrawal(renter, type(uint96).max);
        _settle(_statement(7, 60e6));
        vm.warp(NOW + 24 hours);

        vm.assertEq(ledger.withdraw(renter), 40e6);

        vm.assertEq(_balance(renter), 0);
    }

    function test_onlyTheOwnerAsksForAWithdrawal() public {
        _fund(RENTER_SECRET, 100e6);

        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NotOwner.selector, renter, renter));
        vm.prank(renter);
        ledger.requestWithdrawal(renter, 1);
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NotOwner.selector, address(0xE15E), address(this)));
        ledger.requestWithdrawal(address(0xE15E), 1);
    }

    function test_anOwnerAsksBySignatureOnce() public {
        address owner = vm.addr(0x0177E8);
        ledger.open(renter, owner, coordinator, _opening(RENTER_SECRET, owner));
        _deposit(renter, 100e6);
        bytes memory signature = _withdrawal(0x0177E8, 5e6, 0);

        ledger.requestWithdrawal(renter, 5e6, signature);

        vm.assertEq(ledger.account(renter).pending, 5e6);
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NotSignedBy.selector, owner));
        ledger.requestWithdrawal(renter, 5e6, signature);
        ledger.requestWithdrawal(renter, 6e6, _withdrawal(0x0177E8, 6e6, 1));
        vm.assertEq(ledger.account(renter).pending, 6e6);
    }

    function test_aSignedRequestForAnAccountNobodyOpenedIsRefused() public {
        bytes memory signature = _withdrawal(RENTER_SECRET, 1, 0);

        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NotSignedBy.selector, address(0)));
        ledger.requestWithdrawal(renter, 1, signature);
    }

    function test_askingAgainReplacesTheRequestAndZeroTakesItBack() public {
        _fund(RENTER_SECRET, 100e6);
        vm.startPrank(OWNER);
        ledger.requestWithdrawal(renter, 30e6);
        vm.warp(NOW + 23 hours);
        ledger.requestWithdrawal(renter, 20e6);
        vm.assertEq(ledger.account(renter).unlockAt, NOW + 47 hours);

        ledger.requestWithdrawal(renter, 0);

        vm.warp(NOW + 100 hours);
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NothingPending.selector, renter));
        ledger.withdraw(renter);
    }

    function test_anOwnerThatIsAContractAsksByItsOwnRules() public {
        Wallet wallet = new Wallet(keccak256("yes"));
        ledger.open(renter, address(wallet), coordinator, _opening(RENTER_SECRET, address(wallet)));
        _deposit(renter, 100e6);

        ledger.requestWithdrawal(renter, 5e6, "yes");

        vm.assertEq(ledger.account(renter).pending, 5e6);
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NotSignedBy.selector, wallet));
        ledger.requestWithdrawal(renter, 6e6, "no");
    }

    /// Asking a wallet is a call that can change nothing; so it can't re-enter.
    function test_aWalletThatReentersWhenAskedChangesNothing() public {
        ReenteringWallet wallet = new ReenteringWallet(ledger, renter);
        ledger.open(renter, address(wallet), coordinator, _opening(RENTER_SECRET, address(wallet)));
        _deposit(renter, 100e6);

        ledger.requestWithdrawal(renter, 5e6, "yes");

        vm.assertEq(ledger.account(renter).pending, 5e6);
        vm.assertEq(ledger.account(renter).requests, 1);
        vm.assertEq(_balance(renter), 100e6);
    }

    function test_aStolenHotKeyWithdrawsNothing() public {
        address owner = vm.addr(0x0177E8);
        ledger.open(renter, owner, coordinator, _opening(RENTER_SECRET, owner));
        _deposit(renter, 100e6);
        bytes memory thiefs = _withdrawal(RENTER_SECRET, 100e6, 0);
        bytes memory reopening = _opening(RENTER_SECRET, address(0xBAD));

        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NotSignedBy.selector, owner));
        ledger.requestWithdrawal(renter, 100e6, thiefs);
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.AlreadyOpen.selector, renter, owner));
        ledger.open(renter, address(0xBAD), coordinator, reopening);
        vm.prank(owner);
        ledger.requestWithdrawal(renter, 100e6);
        vm.warp(NOW + 24 hours);
        vm.assertEq(ledger.withdraw(renter), 100e6);
    }

    function test_aStatementThatComesAfterTheWithdrawalIsUnfunded() public {
        _fund(RENTER_SECRET, 100e6);
        vm.prank(OWNER);
        ledger.requestWithdrawal(renter, 100e6);
        vm.warp(NOW + 24 hours);
        ledger.withdraw(renter);

        _assertSkipped(_statement(7, 1e6), LedgerTypes.Skip.Unfunded);
    }

    // --------------------------------------------------------------------------------------------- the till

    function test_feesWaitInTheTillForWhoeverCollectsThem() public {
        _fund(RENTER_SECRET, 100e6);
        _settle(_statement(7, 10e6));
        _settle(_statement(8, 20e6));
        vm.assertEq(_credit(0), 0.3e6); // shown before anybody has moved them

        vm.prank(address(0xA11));
        vm.assertEq(ledger.collect(0), 0.3e6);

        vm.assertEq(token.balanceOf(TREASURY_PAYOUT), 0.3e6);
        vm.assertEq(_credit(0), 0);
        vm.assertEq(ledger.collect(0), 0);
        _settle(_statement(9, 10e6));
        vm.assertEq(ledger.collect(0), 0.1e6);
    }

    function test_theTreasuryCollectsItsCreditAndItsFeesAtOnce() public {
        _fund(RENTER_SECRET, 100e6);
        _settle(_statement(RENTER_SECRET, 7, FAR, _line(0, verifier, recipe, 10e6)));

        vm.assertEq(ledger.collect(0), 9.4e6 + 0.1e6);

        vm.assertEq(token.balanceOf(TREASURY_PAYOUT), 9.5e6);
    }

    function test_feesGoToTheTreasurysNewAddress() public {
        _fund(RENTER_SECRET, 100e6);
        _settle(_statement(7, 10e6));
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NotPayout.selector, 0, ADMIN));
        vm.prank(ADMIN);
        ledger.setPayout(0, ADMIN);

        vm.prank(TREASURY_PAYOUT);
        ledger.setPayout(0, address(0x11E7));

        vm.assertEq(_credit(0), 0.1e6);
        ledger.collect(0);
        vm.assertEq(token.balanceOf(address(0x11E7)), 0.1e6);
    }

    // --------------------------------------------------------------------------- payees, recipes, operators

    function test_aBlockedReceiverStopsNobodyElse() public {
        MoodyToken odd = new MoodyToken();
        _deploy(odd);
        vm.prank(operator);
        ledger.addCoordinator();
        for (uint160 i = 1; i <= 3; ++i) {
            ledger.addPayee(address(0xB0B0 + i));
        }
        ledger.addRecipe(author, 300, 200);
        _open(RENTER_SECRET);
        odd.mint(address(this), 100e6);
        odd.approve(address(ledger), 100e6);
        ledger.deposit(renter, 100e6);
        odd.refuse(PROVIDER_PAYOUT);

        _settle(_statement(7, 10e6));
        vm.expectRevert();
        ledger.collect(provider);
        vm.assertEq(ledger.collect(verifier), 0.2e6);
        vm.prank(PROVIDER_PAYOUT);
        ledger.setPayout(provider, address(0x11E7));
        vm.assertEq(ledger.collect(provider), 9.4e6);
    }

    function test_anybodyCollectsForAPayee() public {
        _fund(RENTER_SECRET, 100e6);
        _settle(_statement(7, 10e6));

        vm.prank(address(0xA11));
        vm.assertEq(ledger.collect(provider), 9.4e6);

        vm.assertEq(token.balanceOf(PROVIDER_PAYOUT), 9.4e6);
        vm.assertEq(_credit(verifier), 0.2e6);
    }

    function test_collectingNothingSaysNothing() public {
        vm.recordLogs();

        vm.assertEq(ledger.collect(provider), 0);

        vm.assertEq(vm.getRecordedLogs().length, 0);
    }

    function test_aPayeeMovesItsPayoutWithItsCredit() public {
        _fund(RENTER_SECRET, 100e6);
        _settle(_statement(7, 10e6));
        vm.prank(PROVIDER_PAYOUT);
        ledger.setPayout(provider, address(0x11E7));

        ledger.collect(provider);

        vm.assertEq(token.balanceOf(address(0x11E7)), 9.4e6);
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NotPayout.selector, provider, PROVIDER_PAYOUT));
        vm.prank(PROVIDER_PAYOUT);
        ledger.setPayout(provider, PROVIDER_PAYOUT);
    }

    function test_payeesHaveAnAddress() public {
        vm.expectRevert(LedgerTypes.ZeroAddress.selector);
        ledger.addPayee(address(0));
        vm.expectRevert(LedgerTypes.ZeroAddress.selector);
        vm.prank(PROVIDER_PAYOUT);
        ledger.setPayout(provider, address(0));
    }

    function test_idsAreDense() public {
        vm.assertEq(ledger.addPayee(address(1)), ledger.addPayee(address(1)) - 1);
        vm.assertEq(ledger.payeeCount(), 6); // the treasury is 0
        vm.assertEq(recipe, 1);
        vm.assertEq(coordinator, 1);
    }

    function test_aRecipesTermsAreBounded() public {
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.RateTooHigh.selector, 501, 500));
        ledger.addRecipe(author, 501, 0);
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.RateTooHigh.selector, 2001, 2000));
        ledger.addRecipe(author, 0, 2001);
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.UnknownPayee.selector, 999));
        ledger.addRecipe(999, 0, 0);
    }

    function test_aRecipesTermsCanBeRead() public {
        uint32 id = ledger.addRecipe(author, 500, 2000);

        (uint32 author_, uint16 royaltyBps, uint16 verifierBps, bool registered) = ledger.recipe(id);

        vm.assertEq(author_, author);
        vm.assertEq(royaltyBps, 500);
        vm.assertEq(verifierBps, 2000);
        vm.assertTrue(registered, "registered");
        (,,, registered) = ledger.recipe(id + 1);
        vm.assertEq(registered, false);
    }

    function test_anOperatorHandsOverItsCoordinator() public {
        vm.prank(operator);
        ledger.setOperator(coordinator, address(0x2));

        vm.assertEq(ledger.operatorOf(coordinator), address(0x2));
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NotOperator.selector, coordinator, operator));
        vm.prank(operator);
        ledger.setOperator(coordinator, operator);
        vm.expectRevert(LedgerTypes.ZeroAddress.selector);
        vm.prank(address(0x2));
        ledger.setOperator(coordinator, address(0));
    }

    // ------------------------------------------------------------------------------------------------ guard

    function test_theGuardStopsEntriesAndNeverExits() public {
        _fund(RENTER_SECRET, 100e6);
        bytes memory opening = _opening(0x07E8, OWNER);
        vm.prank(ADMIN);
        ledger.setPaused(true);

        vm.expectRevert(LedgerTypes.Paused.selector);
        ledger.open(vm.addr(0x07E8), OWNER, coordinator, opening);
        vm.expectRevert(LedgerTypes.Paused.selector);
        ledger.deposit(renter, 1);

        _settle(_statement(7, 10e6));
        ledger.collect(provider);
        vm.prank(OWNER);
        ledger.requestWithdrawal(renter, 90e6);
        vm.warp(NOW + 24 hours);
        vm.assertEq(ledger.withdraw(renter), 90e6);
    }

    function test_onlyTheAuthorityPauses() public {
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, address(this)));
        ledger.setPaused(true);
    }

    function _withdrawal(uint256 secret, uint96 amount, uint32 request) private view returns (bytes memory) {
        return _sign(secret, keccak256(abi.encode(ledger.WITHDRAWAL_TYPEHASH(), renter, amount, request)));
    }
}
