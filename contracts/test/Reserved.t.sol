// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {LedgerTypes} from "../src/LedgerTypes.sol";
import {Market} from "./kit/Market.sol";

contract ReservedTest is Market {
    function setUp() public override {
        super.setUp();
        _fund(RENTER_SECRET, 100e6);
    }

    function test_anybodySettlesAReservedStatement() public {
        vm.prank(address(0xA11));
        uint256 paid = ledger.settleReserved(coordinator, _statement(7, 10e6), 10e6, _reservation(renter, 7, 10e6));

        vm.assertEq(paid, 10e6);
        vm.assertEq(_credit(provider), 9.4e6);
        vm.assertTrue(ledger.nonceUsed(renter, 7), "nonce used");
    }

    function test_itGivesTheSameBooksAsTheCoordinatorsWay() public {
        bytes memory statement = _statement(7, 12_345_678);
        uint256 before = vm.snapshotState();
        ledger.settleReserved(coordinator, statement, 20e6, _reservation(renter, 7, 20e6));
        bytes32 reserved = _books();
        vm.revertToState(before);

        _settle(statement);

        vm.assertEq(_books(), reserved);
    }

    function test_aTotalAboveTheCapIsRefused() public {
        bytes memory reservation = _reservation(renter, 7, 10e6);
        bytes memory statement = _statement(7, 10e6 + 1);

        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.CapExceeded.selector, 10e6 + 1, 10e6));
        ledger.settleReserved(coordinator, statement, 10e6, reservation);
    }

    function test_aReservationIsForOneKeyNonceCapAndOperator() public {
        bytes memory statement = _statement(7, 1e6);
        bytes[4] memory wrong = [
            _reservation(address(0xE15E), 7, 10e6),
            _reservation(renter, 8, 10e6),
            _reservation(renter, 7, 11e6),
            _sign(
                RENTER_SECRET,
                keccak256(abi.encode(ledger.RESERVATION_TYPEHASH(), renter, coordinator, uint32(7), uint96(10e6)))
            )
        ];

        for (uint256 i = 0; i < wrong.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NotSignedBy.selector, operator));
            ledger.settleReserved(coordinator, statement, 10e6, wrong[i]);
        }
    }

    function test_aStatementThatCannotBePaidIsRefusedWithItsReason() public {
        bytes memory reservation = _reservation(renter, 7, 200e6);
        bytes memory unfunded = _statement(7, 101e6);
        bytes memory statement = _statement(7, 1e6);

        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.StatementRejected.selector, LedgerTypes.Skip.Unfunded));
        ledger.settleReserved(coordinator, unfunded, 200e6, reservation);
        ledger.settleReserved(coordinator, statement, 200e6, reservation);
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.StatementRejected.selector, LedgerTypes.Skip.NonceUsed));
        ledger.settleReserved(coordinator, statement, 200e6, reservation);
    }

    function test_moreThanOneStatementIsRefused() public {
        bytes memory two = bytes.concat(_statement(7, 1e6), _statement(8, 1e6));
        bytes memory reservation = _reservation(renter, 7, 10e6);

        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.MoreThanOneStatement.selector, 99));
        ledger.settleReserved(coordinator, two, 10e6, reservation);
    }
}
