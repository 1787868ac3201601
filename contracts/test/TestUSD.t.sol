// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {TestUSD} from "../src/dev/TestUSD.sol";
import {Test} from "./kit/Test.sol";

contract TestUSDTest is Test {
    function test_itHasSixDecimals() public {
        vm.assertEq(new TestUSD().decimals(), 6);
    }

    function test_anybodyMints() public {
        TestUSD token = new TestUSD();

        vm.prank(address(0xA11));
        token.mint(address(0xA12), 5e6);

        vm.assertEq(token.balanceOf(address(0xA12)), 5e6);
        vm.assertEq(token.totalSupply(), 5e6);
    }
}
