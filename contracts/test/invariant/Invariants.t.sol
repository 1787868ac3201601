// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Test} from "../kit/Test.sol";
import {Everybody} from "./Everybody.sol";

/// The laws of README.md that hold after any sequence of calls, all of them checked after every call.
abstract contract Laws is Test {
    Everybody internal everybody;

    function _begin(bool hostile) internal {
        everybody = new Everybody(hostile);
        bytes4[] memory does = new bytes4[](20);
        does[0] = Everybody.deposit.selector;
        does[1] = Everybody.settle.selector;
        does[2] = Everybody.garbage.selector;
        does[3] = Everybody.collect.selector;
        does[4] = Everybody.requestWithdrawal.selector;
        does[5] = Everybody.withdraw.selector;
        does[6] = Everybody.donate.selector;
        does[7] = Everybody.bond.selector;
        does[8] = Everybody.unbond.selector;
        does[9] = Everybody.withdrawStake.selector;
        does[10] = Everybody.dispute.selector;
        does[11] = Everybody.pass.selector;
        does[12] = Everybody.judge.selector;
        does[13] = Everybody.attack.selector;
        does[14] = Everybody.tamper.selector;
        does[15] = Everybody.rotate.selector;
        does[16] = Everybody.setPayout.selector;
        does[17] = Everybody.bondCover.selector;
        does[18] = Everybody.mood.selector;
        does[19] = Everybody.settle.selector;
        target(address(everybody), does);
    }

    function invariant_laws() public view {
        vm.assertEq(everybody.broken(), "");
        vm.assertEq(everybody.books() + everybody.donated(), everybody.heldByLedger(), "1: books = tokens");
        if (!everybody.hostile()) {
            // A hostile token's hooks collect and withdraw for others, too, which nobody counts here.
            vm.assertEq(everybody.paidIn(), everybody.books() + everybody.paidOut(), "2: in = books + out");
            vm.assertTrue(everybody.balancesAreExplained(), "7: a balance changed for no reason");
        }
        vm.assertTrue(everybody.settledStaysSettled(), "5, 10: a nonce came back or a payout changed");
        (uint256 sum, uint256 held) = everybody.staked();
        vm.assertEq(sum, held, "19: the Registry holds its stake");
        (sum, held) = everybody.bondsOfDisputes();
        vm.assertEq(sum, held, "22: Disputes holds the open bonds");
        (sum, held) = everybody.covered();
        vm.assertEq(sum, held, "Cover holds its bonds");
    }
}

contract InvariantsTest is Laws {
    function setUp() public {
        _begin(false);
    }
}

contract InvariantsWithHostileTokenTest is Laws {
    function setUp() public {
        _begin(true);
    }
}
