// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import {IAccessManager} from "@openzeppelin/contracts/access/manager/IAccessManager.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

import {CommonsFund} from "../src/CommonsFund.sol";
import {FeeSplitter} from "../src/FeeSplitter.sol";
import {LedgerTypes} from "../src/LedgerTypes.sol";
import {Institutions} from "./kit/Institutions.sol";

contract CommonsFundTest is Institutions {
    function setUp() public override {
        super.setUp();
        _open(RENTER_SECRET);
        token.mint(address(commons), 60e6);
        LedgerTypes.Award[] memory awards = new LedgerTypes.Award[](1);
        awards[0] = LedgerTypes.Award(address(0), commons.payee(), 40e6);
        token.mint(address(this), 40e6);
        token.approve(address(ledger), 40e6);
        ledger.award(awards);
    }

    function test_onlyTheGranterGrants() public {
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, MULTISIG));
        vm.prank(MULTISIG);
        commons.grant(_grants(1, 1), 0);
    }

    function test_aGrantWaitsForItsDelay() public {
        bytes memory call = abi.encodeCall(CommonsFund.grant, (_grants(1, 1), "why"));
        vm.startPrank(GRANTER);
        bytes32 id = manager.hashOperation(GRANTER, address(commons), call);
        vm.expectRevert(abi.encodeWithSelector(IAccessManager.AccessManagerNotScheduled.selector, id));
        commons.grant(_grants(1, 1), "why");
        manager.schedule(address(commons), call, 0);
        vm.warp(NOW + GRANT_DELAY - 1);
        vm.expectRevert(abi.encodeWithSelector(IAccessManager.AccessManagerNotReady.selector, id));
        manager.execute(address(commons), call);

        vm.warp(NOW + GRANT_DELAY);
        manager.execute(address(commons), call);
        vm.assertEq(_balance(renter), 1);
    }

    function test_grantsGoToAccountsAndPayees() public {
        _grant(70e6, 30e6);

        vm.assertEq(_balance(renter), 70e6);
        vm.assertEq(_credit(provider), 30e6);
        vm.assertEq(token.balanceOf(address(commons)), 0);
        vm.assertEq(_credit(commons.payee()), 0);
    }

    function test_whoCollectsForTheFundFirstChangesNothing() public {
        ledger.collect(commons.payee());

        _grant(70e6, 30e6);

        vm.assertEq(_balance(renter), 70e6);
    }

    function test_noMoreIsGrantedThanThereIs() public {
        bytes memory call = _schedule(70e6, 30e6 + 1);

        vm.expectRevert(
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientBalance.selector, address(commons), 100e6, 100e6 + 1)
        );
        manager.execute(address(commons), call);
    }

    function _grant(uint96 toRenter, uint96 toProvider) private {
        bytes memory call = _schedule(toRenter, toProvider);
        vm.expectEmit();
        emit CommonsFund.Granted("why", uint256(toRenter) + toProvider);
        manager.execute(address(commons), call);
    }

    function _schedule(uint96 toRenter, uint96 toProvider) private returns (bytes memory call) {
        call = abi.encodeCall(CommonsFund.grant, (_grants(toRenter, toProvider), "why"));
        vm.startPrank(GRANTER);
        manager.schedule(address(commons), call, 0);
        vm.warp(NOW + GRANT_DELAY);
    }

    function _grants(uint96 toRenter, uint96 toProvider) private view returns (LedgerTypes.Award[] memory awards) {
        awards = new LedgerTypes.Award[](2);
        awards[0] = LedgerTypes.Award(renter, 0, toRenter);
        awards[1] = LedgerTypes.Award(address(0), provider, toProvider);
    }
}

contract FeeSplitterTest is Institutions {
    function test_feesAreSplit() public {
        _fund(RENTER_SECRET, 100e6);
        _settle(_statement(7, 10e6));

        vm.expectEmit();
        emit FeeSplitter.Split(20_000, 80_000);
        vm.prank(address(0xA11));
        splitter.split();

        vm.assertEq(token.balanceOf(address(commons)), 20_000);
        vm.assertEq(token.balanceOf(TREASURY_PAYOUT), 80_000);
    }

    function test_whoCollectsFirstChangesNothing() public {
        _fund(RENTER_SECRET, 100e6);
        _settle(_statement(7, 10e6));
        ledger.collect(0);

        splitter.split();

        vm.assertEq(token.balanceOf(address(commons)), 20_000);
        vm.assertEq(token.balanceOf(TREASURY_PAYOUT), 80_000);
    }

    function test_whereThereIsNothingNothingIsSplit() public {
        splitter.split();

        vm.assertEq(token.balanceOf(TREASURY_PAYOUT), 0);
    }

    function testFuzz_thePartsSumToWhatThereWas(uint96 held, uint16 bps) public {
        bps = uint16(bound(bps, 0, 10_000));
        splitter = new FeeSplitter(ledger, address(commons), TREASURY_PAYOUT, bps, address(manager));
        token.mint(address(splitter), held);

        splitter.split();

        vm.assertEq(token.balanceOf(address(commons)), uint256(held) * bps / 10_000);
        vm.assertEq(token.balanceOf(address(commons)) + token.balanceOf(TREASURY_PAYOUT), held);
    }

    function test_somebodyMaintains() public {
        vm.expectRevert(FeeSplitter.ZeroAddress.selector);
        new FeeSplitter(ledger, address(commons), address(0), 0, address(manager));
    }

    function test_noMoreThanAllIsTheCommons() public {
        vm.expectRevert(abi.encodeWithSelector(FeeSplitter.RateTooHigh.selector, 10_001, 10_000));
        new FeeSplitter(ledger, address(commons), address(1), 10_001, address(manager));
    }

    function test_termsChangeAfterSevenDays() public {
        bytes memory call = abi.encodeCall(FeeSplitter.setTerms, (address(0x11E7), 10_000));
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, GUARDIAN));
        vm.prank(GUARDIAN);
        splitter.setTerms(address(0x11E7), 10_000);
        vm.startPrank(MULTISIG);
        vm.expectPartialRevert(IAccessManager.AccessManagerNotScheduled.selector);
        splitter.setTerms(address(0x11E7), 10_000);
        manager.schedule(address(splitter), call, 0);
        vm.warp(NOW + 7 days - 1);
        vm.expectPartialRevert(IAccessManager.AccessManagerNotReady.selector);
        manager.execute(address(splitter), call);

        vm.warp(NOW + 7 days);
        manager.execute(address(splitter), call);
        vm.assertEq(splitter.maintainers(), address(0x11E7));
        vm.assertEq(splitter.commonsBps(), 10_000);
    }
}
